"""The table that is printed at the end of a study of rewards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.common.files import read_json
from cpt.evaluate.stats import format_number
from cpt.report.rewards.reward_vs_accuracy import RULE

if TYPE_CHECKING:
    from rich.console import Console


def print_study(run_dir: Path, console: Console) -> None:
    """Print one line per reward set from summary.json. ValueError if the run has no rewards of its own."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    summary = run_dir / "summary.json"
    found = read_json(summary).get("rewards") if summary.is_file() else None
    if not found:
        raise ValueError(f"{run_dir}: no study of rewards; make one with cpt rewards study RECIPE")
    table = Table(
        box=box.SIMPLE_HEAD,
        title="on held-out samples of each stage's task, before → after, percent",
        title_justify="left",
        title_style="bold",
        pad_edge=False,
    )
    table.add_column("reward set", no_wrap=True)
    for title in ("reward", "strict", "tolerant", "wrong but rewarded"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("flagged", justify="right")
    for name, one in found.items():
        held = one["held_out"]
        cells = [_moved(held[part]) for part in ("reward", "strict", "tolerant")]
        label = Text(name, style="bold red" if one["hacked"] else "bold")
        stages = ", ".join(str(stage["stage"]) for stage in one["stages"] if stage["held_out"]["hacked"])
        table.add_row(label, *cells, _wrong_rewarded(one["stages"]), f"stage {stages}" if stages else "")
    console.print(table)
    # Names are data: no markup.
    for name, one in found.items():
        for stage in one["stages"]:
            if stage["held_out"]["hacked"]:
                console.print(f"{name}: {_told(stage)}", markup=False, highlight=False)
    console.print(f"A stage is {RULE}.", style="dim", markup=False, highlight=False)


def _told(stage: Mapping[str, Any]) -> str:
    """A flagged stage in words: what happened, what was exploited most, and whether the audit predicted it."""
    held, after = stage["held_out"], stage["after"]
    text = f"stage {stage['stage']}, {held['task']}: {held['words']}"
    if after and after["kinds"]:
        kind, count = next(iter(after["kinds"].items()))
        said = {True: "predicted by the audit", False: "not predicted by the audit", None: "not audited"}
        text += f"; wrong but rewarded {after['exploits']} of {after['completions']}, {count} of them: {kind}"
        text += f" ({said[stage['predicted']]})"
    return text


def _moved(change: Mapping[str, Any]) -> str:
    before, after = change["before"]["value"], change["after"]["value"]
    return "n/a" if before is None or after is None else f"{_percent(before)} → {_percent(after)}"


def _wrong_rewarded(stages: list[Mapping[str, Any]]) -> str:
    """Mean over stages of the share of completions that are wrong but rewarded."""
    shares = [
        [stage[when]["exploits"] / stage[when]["completions"] for when in ("before", "after")]
        for stage in stages
        if all(stage[when] and stage[when]["completions"] for when in ("before", "after"))
    ]
    if not shares:
        return "n/a"
    before, after = (sum(column) / len(column) for column in zip(*shares, strict=True))
    return f"{_percent(before)} → {_percent(after)}"


def _percent(value: float) -> str:
    return format_number(100 * value, digits=0)
