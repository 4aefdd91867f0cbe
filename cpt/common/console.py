"""The console that cpt prints to, and numbers and foreign text in what is printed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def counted(number: int, noun: str) -> str:
    """`1 seed`, `2 seeds`; for nouns whose plural takes an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def printable(text: str) -> str:
    """The text in one line; control characters and invisible ones are written as escapes."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def visible(text: str, width: int = 60) -> str:
    """`printable`, shortened in the middle to at most `width` characters."""
    if len(text) > 4 * width:
        text = text[: 2 * width] + text[-2 * width :] if width else ""
    shown = printable(text)
    if len(shown) <= width:
        return shown
    tail = width // 3
    return f"{shown[: width - tail - 1]}…{shown[-tail:]}"


def console() -> Console:
    """A rich console; piped output, which has no width, gets 160 columns so that tables are not cut."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=160)
