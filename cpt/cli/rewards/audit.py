"""`cpt rewards audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cpt.cli.rewards.arguments import REWARD, RewardsFile, TrustRewards
from cpt.cli.rewards.cells import new_table, plain, said
from cpt.cli.rewards.from_file import examples_in, in_file
from cpt.common.console import console, visible
from rewards import registry
from rewards.lab.audit import RIGHT, Audit, Finding
from rewards.lab.audit_plan import audit_chosen, check_examples, read_examples
from rewards.lab.choose import choose

_KINDS = {"rewarded": "rewarded", "unrewarded": "not rewarded", "failed": "failed"}


def audit(
    name: Annotated[list[str] | None, typer.Argument(metavar="REWARD", help=REWARD)] = None,
    every: Annotated[bool, typer.Option("--all", help="Every reward there is.")] = False,
    rewards: RewardsFile = None,
    on: Annotated[
        Path | None,
        typer.Option("--on", metavar="FILE", help="JSON lines with your own question, gold, wrong, choices."),
    ] = None,
    template: Annotated[list[str] | None, typer.Option("--template", help="Only this format; can be repeated.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows of --on to try.")] = 20,
    show: Annotated[int, typer.Option(min=1, help="Completions shown of each case.")] = 2,
    trust_rewards: TrustRewards = False,
) -> None:
    """Attack rewards with completions that must not be rewarded, and with other spellings of right answers.

    A recipe's rewards (--rewards RECIPE) are tried on questions of its own tasks, unless --on brings others.

    Exit code 1 if something is rewarded that should not be, or the other way round, and no docstring admits it.
    """

    chosen = choose([*(name or ()), *(registry.names() if every else ())], in_file(rewards, trust_rewards))
    examples = read_examples(on) if on else []
    if on:
        for one in chosen:
            check_examples(one, examples, on)
    if len(examples) > rows:
        typer.echo(f"tried on the first {rows} of {len(examples)} questions; --rows {len(examples)} tries them all")
        examples = examples[:rows]
    of_tasks = examples_in(rewards) if rewards and not on else {}
    screen, failed = console(), []
    for one in chosen:
        found = audit_chosen(one, examples or of_tasks.get(one.label, ()), template or ())
        print_audit(one.label, found, show, screen)
        if not found.passed:
            failed.append(one.label)
    if failed:
        raise typer.Exit(1)


def print_audit(name: str, audit: Audit, show: int, out: Console) -> None:
    """One reward's audit: the verdict, what it rewarded wrongly, what it failed to reward, and known limits."""

    news = [finding for finding in audit.findings if not finding.known]
    verdict = "passed" if audit.passed else f"{len(news)} findings"
    known = f", {len(audit.findings) - len(news)} known" if len(audit.findings) > len(news) else ""
    style = "green" if audit.passed else "bold red"
    out.print(plain(f"{name}: {verdict}{known}, of {audit.tried} completions", style), soft_wrap=True)
    if not audit.findings:
        return
    cases: dict[tuple[bool, str, str], list[Finding]] = {}
    for finding in sorted(audit.findings, key=lambda one: (bool(one.known), one.kind)):
        cases.setdefault((bool(finding.known), finding.kind, finding.case), []).append(finding)
    table = new_table("", "case", "times", "completion", "got", "bound", "format")
    for (is_known, kind, case), found in cases.items():
        for number, one in enumerate(found[:show]):
            first = [_KINDS[kind], case, str(len(found))] if number == 0 else ["", "", ""]
            sign = "≤" if kind != "unrewarded" else ">" if case == RIGHT else "≥"
            cells = [*first, visible(one.completion), said(one.score), f"{sign} {one.bound:.3g}", one.style]
            table.add_row(*(plain(cell, "dim" if is_known else "") for cell in cells))
        if is_known:
            table.add_row("", plain("known limit", "dim"), "", plain(found[0].known, "dim"))
    out.print(table)
