"""The tables of shipped tasks in docs/tasks.md, made from their files.

`python -m cpt.recipe.task_table` prints them; with `docs/tasks.md` behind it, it puts them into the page.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from cpt.recipe.shipped_recipes import headline
from cpt.recipe.task_files import read_task_file, shipped_task_files
from cpt.tasks.definition import TaskDefinition
from cpt.tasks.usual import MAX_TOKENS

START, END = "<!-- table -->\n", "\n<!-- end of table -->"
LABELS = ("Source", "Asks", "Licence", "Rows", "Unverified")
"""What a shipped task's `about` says, each once and in this order."""

_LABEL = re.compile(rf"\b({'|'.join(LABELS)}): ")
_HEADER = ("task", "source", "asks", "licence", "rows", "metric", "tokens: direct, think", "not verified, and notes")


def tables() -> str:
    """Markdown: for each file its name, what it is, and a line for every task, in the file's order."""
    return "\n\n".join(map(_table, shipped_task_files()))


def facts(about: str) -> dict[str, str]:
    """What an `about` says under each label; of one without labels everything is the source."""
    before, *parts = _LABEL.split(about)
    found = dict(zip(parts[::2], map(str.strip, parts[1::2]), strict=True))
    return found or {"Source": before.strip()}


def _table(name: str) -> str:
    file = shipped_task_files()[name]
    lines = [f"### {name}", "", f"{headline(file)}.", "", _line(*_HEADER), "|" + "---|" * len(_HEADER)]
    return "\n".join([*lines, *map(_row, read_task_file(file, "."))])


def _row(one: TaskDefinition) -> str:
    said = facts(one.about)
    source, asks, licence, rows, unverified = (said.get(label, "–").removesuffix(".") for label in LABELS)
    options = ", ".join(f"{name}: {_shown(value)}" for name, value in one.metric_options.items())
    metric = f"`{one.metric or 'by the rows'}`" + (f" ({options})" if options else "")
    limits = {**MAX_TOKENS, **one.max_tokens}
    tokens = f"{limits['direct']}, {limits['think']}" if one.answered_by == "generation" else "–"
    return _line(f"`{one.name}`", source, asks, licence, rows, metric, tokens, unverified)


def _shown(value: object) -> str:
    return "/".join(map(str, value)) if isinstance(value, list) else json.dumps(value)


def _line(*cells: str) -> str:
    return (
        "| " + " | ".join(" ".join(cell.replace("|", "&#124;").replace("<", "&lt;").split()) for cell in cells) + " |"
    )


def put(page: Path) -> None:
    """Put the tables into a page, between their marks."""
    before, _, rest = page.read_text(encoding="utf-8").partition(START)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{START}{tables()}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        put(Path(sys.argv[1]))
    else:
        print(tables())
