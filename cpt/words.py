"""Numbers in sentences, and the console that prints them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def counted(number: int, noun: str) -> str:
    """`1 seed`, `2 seeds`; for nouns whose plural takes an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def console() -> Console:
    """Piped output has no width; a narrow default would cut the tables."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=160)
