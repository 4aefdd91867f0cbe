"""Tables of `cpt rewards`. Completions are data: shown without markup, invisible characters as escapes."""

from __future__ import annotations

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from cpt.common.console import printable, visible
from rewards.score import Score


def new_table(*titles: str, right: Iterable[int] = (), header: bool = True) -> Table:

    aligned = set(right)
    table = Table(box=SIMPLE_HEAD, show_header=header, pad_edge=False)
    for number, title in enumerate(titles):
        table.add_column(plain(title), justify="right" if number in aligned else "left")
    return table


def plain(text: str, style: str = "") -> Text:
    """Text that rich does not interpret."""

    return Text(printable(text), style)


def mean(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def share(count: int, n: int) -> str:
    return f"{count} ({100 * count / n:.1f} %)" if count else "0"


def said(score: Score | None) -> str:
    """A score in a few words: value, status unless ok, and what was read."""
    if score is None:
        return "does not apply"
    status = score.status.replace("_", " ")
    if score.failed:
        return f"{status}: {visible(score.detail, 40)}"
    words = [f"{score.value:.3g}", *([status] if status != "ok" else [])]
    return " ".join([*words, *([f"“{visible(score.extracted, 24)}”"] if score.extracted else [])])
