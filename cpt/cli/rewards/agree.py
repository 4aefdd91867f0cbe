"""`cpt rewards agree`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from cpt.cli.rewards.arguments import REWARD, Columns, Force, MaxTokens, Out, TemplateName
from cpt.cli.rewards.cells import new_table, plain, said
from cpt.cli.rewards.files import check_out, read, write
from cpt.common.console import console, visible
from rewards.lab import agreement
from rewards.lab.agreement import Agreement
from rewards.lab.breakdown import with_scores
from rewards.lab.choose import choose
from rewards.lab.saved import Saved, score_saved
from rewards.score import Score


def agree(
    a: Annotated[str, typer.Argument(metavar="A", help=REWARD)],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    on: Annotated[Path, typer.Option("--on", metavar="FILE", help="Saved completions.")],
    column: Columns = None,
    template: TemplateName = None,
    max_tokens: MaxTokens = None,
    threshold: Annotated[float, typer.Option(help="A reward says yes from this value on.")] = 0.5,
    show: Annotated[int, typer.Option(min=0, help="Kinds of disagreement shown, worst first.")] = 10,
    out: Out = None,
    force: Force = False,
) -> None:
    """Show where two rewards disagree about saved completions."""
    check_out(out, on, force)

    if a == b:
        raise ValueError(f"{a}: agrees with itself; name two rewards")
    first, second = choose([a, b])
    saved = read(on, column, template, max_tokens)
    scores = (score_saved(saved, first.reward, first.label), score_saved(saved, second.reward, second.label))
    found = agreement.agree(*scores, threshold)
    names, screen = (first.label, second.label), console()
    print_agreement(names, found, screen)
    rows = [*found.disagreeing, *found.failed]
    if rows and show:
        print_disagreements(saved, names, scores, rows, show, screen)
    if out is not None:
        table = with_scores(saved, dict(zip(names, scores, strict=True)))
        write(out, {column: [values[i] for i in rows] for column, values in table.items()})


def print_agreement(names: tuple[str, str], found: Agreement, out: Console) -> None:
    """Print the 2×2 table and the numbers computed from it."""
    a, b = names
    yes, no = f"≥ {found.threshold:g}", f"< {found.threshold:g}"
    table = new_table("", f"{b} {yes}", f"{b} {no}", right=(1, 2))
    table.add_row(plain(f"{a} {yes}"), str(found.both), str(found.only_a))
    table.add_row(plain(f"{a} {no}"), str(found.only_b), str(found.neither))
    out.print(table)
    different = found.only_a + found.only_b
    lines = [f"verdicts differ in {different} of {found.scored} rows, values in {len(found.disagreeing)}"]
    if found.mean_difference is not None:
        lines.append(f"mean |difference| {found.mean_difference:.3f}")
    if found.kappa is not None:
        lines.append(f"Cohen's kappa {found.kappa:.3f}")
    else:
        why = (
            "both say the same of every row, so there is nothing to tell apart" if found.scored else "no row was scored"
        )
        lines.append(f"Cohen's kappa n/a: {why}")
    if found.failed:
        counts = f"by {a} {found.failed_a}, by {b} {found.failed_b}, by both {found.failed_both}"
        lines.append(f"in none of these numbers, because they could not be scored: {counts}")
    for line in lines:
        out.print(plain(line), soft_wrap=True)


def print_disagreements(
    saved: Saved,
    names: tuple[str, str],
    scores: tuple[Sequence[Score | None], Sequence[Score | None]],
    rows: Sequence[int],
    show: int,
    out: Console,
) -> None:
    """Print rows that two rewards score differently; equal ones once, with their number."""
    a, b = scores
    golds = saved.columns.get("gold", [""] * len(saved))
    same: dict[tuple[str, ...], list[int]] = {}
    for i in rows:
        key = (str(saved.columns["completion"][i]), _gold(golds[i]), said(a[i]), said(b[i]))
        same.setdefault(key, []).append(i)
    table = new_table("row", "times", "completion", "gold", *names, right=(0, 1))
    for (completion, gold, *verdicts), found in list(same.items())[:show]:
        cells = (visible(completion), visible(gold, 30), *verdicts)
        table.add_row(str(found[0] + 1), str(len(found)), *map(plain, cells))
    out.print(table)
    if len(same) > show:
        left = len(same) - show
        out.print(plain(f"{left} more kinds of disagreement; --show N shows more, --out FILE keeps all rows"))


def _gold(value: Any) -> str:
    return " | ".join(map(str, value)) if isinstance(value, list) else str(value)
