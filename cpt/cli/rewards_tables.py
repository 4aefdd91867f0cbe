"""What `cpt rewards` prints. Completions are data: shown without markup, and nothing in them is invisible."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cpt.common.console import printable, visible
from rewards.score import STATUSES

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from rewards.lab.agreement import Agreement
    from rewards.lab.audit import Audit, Finding
    from rewards.lab.breakdown import Summary
    from rewards.lab.saved import Saved
    from rewards.registry import Entry
    from rewards.score import Score

MAX_GROUPS = 60


def print_list(entries: Iterable[Entry], out: Console) -> None:
    """Every reward in a few lines: name, family, parameters, what it measures, formula, source."""
    from rich.padding import Padding

    for entry in entries:
        title = _plain(entry.name, "bold")
        title.append(f"  {entry.family}  {parameters(entry)}", "not bold")
        out.print(title, highlight=False)
        for line in (entry.summary, f"value   {entry.formula}", f"source  {entry.source}"):
            out.print(Padding(_plain(line), (0, 0, 0, 4)))
        out.print()


def print_entry(entry: Entry, out: Console) -> None:
    """One reward in full."""
    fields = {
        "family": entry.family,
        "formula": entry.formula,
        "columns": ", ".join(entry.required) or "none",
        "parameters": parameters(entry) or "none",
        "source": entry.source,
        "limits": entry.limits or "none stated",
    }
    out.print(_plain(f"{entry.name}: {entry.summary}", "bold"), soft_wrap=True)
    table = _table("", "", header=False)
    for name, text in fields.items():
        table.add_row(_plain(name), _plain(text))
    out.print(table)


def parameters(entry: Entry) -> str:
    """A reward's parameters with their defaults, as in `read=strict`."""
    shown = {name: _value(parameter.default) for name, parameter in entry.parameters.items()}
    return ", ".join(f"{name}={value}" for name, value in shown.items())


def _value(default: Any) -> str:
    if default is inspect.Parameter.empty:
        return "…"
    return default if isinstance(default, str) and default else repr(default)


def print_summaries(saved: Saved, summaries: Mapping[str, Summary], out: Console) -> None:
    """Means, parts and statuses of several rewards."""
    out.print(_plain(f"{saved.path}: {len(saved)} rows"), soft_wrap=True)
    table = _table("reward", "mean", *(status.replace("_", " ") for status in STATUSES), right=range(1, 8))
    for name, summary in summaries.items():
        counts = [_share(summary.statuses[status], summary.n) for status in STATUSES]
        table.add_row(_plain(name, "bold"), _mean(summary.mean), *map(_plain, counts))
        for part, mean in summary.parts.items():
            table.add_row(_plain(f"  {part}"), _mean(mean))
    out.print(table)
    for name, summary in summaries.items():
        if summary.failed:
            out.print(_plain(f"{name} could not judge {summary.failed} rows; they are in no mean"), soft_wrap=True)
        if summary.not_applicable:
            text = f"{name} does not apply to {summary.not_applicable} rows, which lack a column that it needs"
            out.print(_plain(text), soft_wrap=True)


def print_groups(by: Sequence[str], groups: Mapping[str, Mapping[tuple[str, ...], Summary]], out: Console) -> None:
    """Means per group of rows; `groups` is by reward, then by the values of the columns `by`."""
    keys = list(dict.fromkeys(key for found in groups.values() for key in found))
    table = _table(*by, "rows", *groups, right=range(len(by), len(by) + 1 + len(groups)))
    for key in keys[:MAX_GROUPS]:
        found = [summaries[key] for summaries in groups.values()]
        cells = [f"{_mean(one.mean)}{f' ({one.failed} failed)' if one.failed else ''}" for one in found]
        table.add_row(*(_plain(visible(value)) for value in key), str(found[0].n), *cells)
    out.print(table)
    if len(keys) > MAX_GROUPS:
        out.print(_plain(f"{len(keys) - MAX_GROUPS} more groups are not shown; choose fewer columns with --by"))


def print_agreement(names: tuple[str, str], found: Agreement, out: Console) -> None:
    """The 2×2 table and the numbers drawn from it."""
    a, b = names
    yes, no = f"≥ {found.threshold:g}", f"< {found.threshold:g}"
    table = _table("", f"{b} {yes}", f"{b} {no}", right=(1, 2))
    table.add_row(_plain(f"{a} {yes}"), str(found.both), str(found.only_a))
    table.add_row(_plain(f"{a} {no}"), str(found.only_b), str(found.neither))
    out.print(table)
    different = found.only_a + found.only_b
    lines = [f"verdicts differ in {different} of {found.judged} rows, values in {len(found.disagreeing)}"]
    if found.mean_difference is not None:
        lines.append(f"mean |difference| {found.mean_difference:.3f}")
    if found.kappa is not None:
        lines.append(f"Cohen's kappa {found.kappa:.3f}")
    else:
        why = (
            "both say the same of every row, so there is nothing to tell apart" if found.judged else "no row was judged"
        )
        lines.append(f"Cohen's kappa n/a: {why}")
    if found.failed:
        counts = f"by {a} {found.failed_a}, by {b} {found.failed_b}, by both {found.failed_both}"
        lines.append(f"in none of these numbers, because they could not be judged: {counts}")
    for line in lines:
        out.print(_plain(line), soft_wrap=True)


def print_disagreements(
    saved: Saved,
    names: tuple[str, str],
    scores: tuple[Sequence[Score | None], Sequence[Score | None]],
    rows: Sequence[int],
    show: int,
    out: Console,
) -> None:
    """Rows of a file that two rewards see differently; equal ones once, with how often they occur."""
    a, b = scores
    golds = saved.columns.get("gold", [""] * len(saved))
    same: dict[tuple[str, ...], list[int]] = {}
    for i in rows:
        key = (str(saved.columns["completion"][i]), _gold(golds[i]), said(a[i]), said(b[i]))
        same.setdefault(key, []).append(i)
    table = _table("row", "times", "completion", "gold", *names, right=(0, 1))
    for (completion, gold, *verdicts), found in list(same.items())[:show]:
        cells = (visible(completion), visible(gold, 30), *verdicts)
        table.add_row(str(found[0] + 1), str(len(found)), *map(_plain, cells))
    out.print(table)
    if len(same) > show:
        left = len(same) - show
        out.print(_plain(f"{left} more kinds of disagreement; --show N shows more, --out FILE keeps all rows"))


def _gold(value: Any) -> str:
    return " | ".join(map(str, value)) if isinstance(value, list) else str(value)


def said(score: Score | None) -> str:
    """A score in a few words: value, status unless ok, and what was read."""
    if score is None:
        return "does not apply"
    status = score.status.replace("_", " ")
    if score.failed:
        return f"{status}: {visible(score.detail, 40)}"
    words = [f"{score.value:.3g}", *([status] if status != "ok" else [])]
    return " ".join([*words, *([f"“{visible(score.extracted, 24)}”"] if score.extracted else [])])


def print_audit(name: str, audit: Audit, show: int, out: Console) -> None:
    """One reward's audit: a verdict, then what it paid for wrongly, what it failed to pay for, and known limits."""
    from rewards.lab.audit import RIGHT

    news = [finding for finding in audit.findings if not finding.known]
    verdict = "passed" if audit.passed else f"{len(news)} findings"
    known = f", {len(audit.findings) - len(news)} known" if len(audit.findings) > len(news) else ""
    style = "green" if audit.passed else "bold red"
    out.print(_plain(f"{name}: {verdict}{known}, of {audit.tried} completions", style), soft_wrap=True)
    if not audit.findings:
        return
    cases: dict[tuple[bool, str, str], list[Finding]] = {}
    for finding in sorted(audit.findings, key=lambda one: (bool(one.known), one.kind)):
        cases.setdefault((bool(finding.known), finding.kind, finding.case), []).append(finding)
    table = _table("", "case", "times", "completion", "got", "bound", "format")
    for (is_known, kind, case), found in cases.items():
        for number, one in enumerate(found[:show]):
            first = [_KINDS[kind], case, str(len(found))] if number == 0 else ["", "", ""]
            sign = "≤" if kind != "unpaid" else ">" if case == RIGHT else "≥"
            cells = [*first, visible(one.completion), said(one.score), f"{sign} {one.bound:.3g}", one.style]
            table.add_row(*(_plain(cell, "dim" if is_known else "") for cell in cells))
        if is_known:
            table.add_row("", _plain("known limit", "dim"), "", _plain(found[0].known, "dim"))
    out.print(table)


_KINDS = {"paid": "paid", "unpaid": "not paid", "failed": "failed"}


def _table(*titles: str, right: Iterable[int] = (), header: bool = True) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    aligned = set(right)
    table = Table(box=SIMPLE_HEAD, show_header=header, pad_edge=False)
    for number, title in enumerate(titles):
        table.add_column(_plain(title), justify="right" if number in aligned else "left")
    return table


def _plain(text: str, style: str = "") -> Text:
    """Text that rich leaves as it is."""
    from rich.text import Text

    return Text(printable(text), style)


def _mean(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _share(count: int, n: int) -> str:
    return f"{count} ({100 * count / n:.1f} %)" if count else "0"
