"""The table that is printed at the end of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cpt.common.console import printable
from cpt.evaluate.drift import HEADLINE
from cpt.evaluate.stats import Metric, format_number
from cpt.report.arm_summary import DEFINED
from cpt.report.drift import nats
from cpt.report.during import during_line
from cpt.report.load import load_run
from cpt.report.sanity_checks import caveats
from cpt.report.summary import Summary, summarise
from cpt.report.verdict import verdicts

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

COLUMNS = {"MFT": "new task ↑", "AvgAcc": "final ↑", "BWT": "BWT ↑", "retention": "general ↑"}
SIGNED = {"BWT", "retention"}
DRIFT = "drift"  # in nats; shown only where there is room


def print_summary(run: str | Path | Summary, console: Console | None = None) -> None:
    """Print the headline numbers of a run, finished or not: one line per arm and scoring, intervals in brackets.

    Raises:
        ValueError: not a run folder, or a damaged file in it.
    """
    from rich.console import Console as RichConsole

    summary = run if isinstance(run, Summary) else summarise(load_run(run))
    out = console or RichConsole()
    measured = any(item.drift.headline.value is not None for item in summary.arms)
    # A narrow terminal loses drift first, then the intervals.
    layouts = [(intervals, drift) for intervals in (True, False) for drift in (True, False) if measured or not drift]
    roomy = out.options.update(width=10 * out.width)
    for intervals, shown in layouts:
        table = _table(summary, intervals=intervals, drift=shown)
        if out.measure(table, options=roomy).maximum <= out.width:
            break
    out.print(table)
    if summary.run.imported:
        out.print(_elsewhere(summary))
    for line in verdicts(summary):
        out.print(printable(line), markup=False, highlight=False)
    if line := during_line(summary):
        out.print(printable(line), markup=False, highlight=False)
    definitions = [f"{label[:-2]} = {_plain(DEFINED[name])}" for name, label in COLUMNS.items()]
    if not intervals:
        definitions.insert(0, f"The {_level(summary)} intervals are in report.html; here they need a wider terminal.")
    definitions += [f"{DRIFT} = {_plain(HEADLINE)}"] if shown else []
    # Names of arms and tasks are data: no markup, and no control characters.
    for line in (*definitions, *caveats(summary.run)):
        out.print(printable(line), style="dim", markup=False, highlight=False)


def _table(summary: Summary, *, intervals: bool, drift: bool) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = f"{summary.run.name}: percent and points" + (f", {_level(summary)} intervals" if intervals else "")
    table = Table(
        box=box.SIMPLE_HEAD,
        title=Text(printable(title), style="bold"),
        title_justify="left",
        pad_edge=False,
    )
    table.add_column("arm", no_wrap=True)
    for column in COLUMNS.values():
        table.add_column(column, justify="right", no_wrap=True)
    if drift:
        table.add_column(DRIFT, justify="right", no_wrap=True)
    rows = [(item, scoring, item.headline(scoring)) for item in summary.arms for scoring in item.numbers]
    widths = {name: max(len(_interval(name, found[name])) for _, _, found in rows) for name in COLUMNS}
    for number, (item, scoring, found) in enumerate(rows):
        if number and rows[number - 1][0].arm.family != item.arm.family:
            table.add_section()
        strict = scoring == "strict"
        cells = [_cell(name, found[name], widths[name] if intervals else 0) for name in COLUMNS]
        if drift:
            moved = item.drift.headline.value
            cells.append("" if not strict else "n/a" if moved is None else nats(moved))
        label = Text(printable(item.arm.label), style="bold") if strict else Text(f"  {scoring}")
        table.add_row(label, *cells, style="" if strict else "dim")
    return table


def _elsewhere(summary: Summary) -> Table:
    """General tasks that were scored by another program: the score after the last stage, and the base model's."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = "scored elsewhere, and in none of the means above: percent after the last stage (base)"
    table = Table(box=box.SIMPLE_HEAD, title=Text(title, style="bold"), title_justify="left", pad_edge=False)
    table.add_column("arm", no_wrap=True)
    for task, source in summary.run.imported.items():
        table.add_column(Text(printable(f"{task} ↑, by {source}")), justify="right")
    for item in summary.arms:
        matrix = item.numbers["strict"].imported
        ends = [[matrix.cell(stage, j) for stage in (matrix.stages, 0)] for j in range(len(matrix.tasks))]
        cells = [f"{_cell('AvgAcc', last, 0)} ({_cell('AvgAcc', base, 0)})" for last, base in ends]
        table.add_row(Text(printable(item.arm.label), style="bold"), *cells)
    return table


def _level(summary: Summary) -> str:
    return f"{round(summary.bootstrap.level * 100)} %"


def _cell(name: str, metric: Metric, width: int) -> str:
    """A value, with its interval if it has a width."""
    if metric.value is None:
        return "n/a"
    value = format_number(100 * metric.value, signed=name in SIGNED)
    return f"{value} {_interval(name, metric):>{width}}" if width else value


def _interval(name: str, metric: Metric) -> str:
    """With as many digits as the value: with fewer, an interval may seem to exclude its value."""
    if metric.low is None or metric.high is None:
        return ""
    low, high = (format_number(100 * end, signed=name in SIGNED) for end in (metric.low, metric.high))
    return f"({low}, {high})"


def _plain(formula: str) -> str:
    return formula.replace("{", "").replace("}", "")
