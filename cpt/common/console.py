"""Numbers and foreign text in sentences, and the console that prints them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def counted(number: int, noun: str) -> str:
    """`1 seed`, `2 seeds`; for nouns whose plural takes an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def printable(text: str) -> str:
    """The text in one line with everything that acts on a terminal, or can't be seen, written as an escape."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def visible(text: str, width: int = 60) -> str:
    """`printable`, in at most `width` characters: the middle is left out."""
    if len(text) > 4 * width:
        text = text[: 2 * width] + text[-2 * width :] if width else ""
    shown = printable(text)
    if len(shown) <= width:
        return shown
    tail = width // 3
    return f"{shown[: width - tail - 1]}…{shown[-tail:]}"


def console() -> Console:
    """Piped output has no width; a narrow default would cut the tables."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=160)
