"""`cpt rewards score`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer
from rich.console import Console

from cpt.cli.rewards.arguments import (
    Columns,
    File,
    Force,
    MaxTokens,
    Out,
    Rewards,
    RewardsFile,
    TemplateName,
    TrustRewards,
)
from cpt.cli.rewards.cells import mean, new_table, plain, share
from cpt.cli.rewards.files import check_out, read, write
from cpt.cli.rewards.from_file import in_file
from cpt.common.console import console, visible
from rewards.lab.breakdown import Summary, by_group, summarise, with_scores
from rewards.lab.choose import choose
from rewards.lab.saved import Saved, score_saved
from rewards.registry import nearest
from rewards.score import STATUSES

MAX_GROUPS = 60


def score(
    file: File,
    reward: Rewards = None,
    rewards: RewardsFile = None,
    column: Columns = None,
    template: TemplateName = None,
    max_tokens: MaxTokens = None,
    by: Annotated[
        list[str] | None, typer.Option(help="Group by this column; can be repeated. Default: arm, stage, task.")
    ] = None,
    out: Out = None,
    force: Force = False,
    trust_rewards: TrustRewards = False,
) -> None:
    """Score saved completions in this process, without a model, Ray or a GPU."""
    check_out(out, file, force)

    chosen = choose(reward or (), in_file(rewards, trust_rewards))
    saved = read(file, column, template, max_tokens)
    groups = grouping(saved, by)
    scores = {one.label: score_saved(saved, one.reward, one.label) for one in chosen}
    screen = console()
    print_summaries(saved, {label: summarise(found) for label, found in scores.items()}, screen)
    if groups:
        print_groups(groups, {label: by_group(saved, found, groups) for label, found in scores.items()}, screen)
    if out is not None:
        write(out, with_scores(saved, scores))


def grouping(saved: Saved, by: Sequence[str] | None) -> list[str]:
    """The columns to group by: those asked for, else those of arm, stage and task that have several values."""
    if by is not None:
        for name in by:
            if name not in saved.columns:
                raise ValueError(f"{saved.path}: has no column {name!r} to group by{nearest(name, saved.columns)}")
        return list(by)
    return [name for name in ("arm", "stage", "task") if len(set(map(str, saved.columns.get(name, ())))) > 1]


def print_summaries(saved: Saved, summaries: Mapping[str, Summary], out: Console) -> None:
    """Print means, parts and statuses of several rewards."""
    out.print(plain(f"{saved.path}: {len(saved)} rows"), soft_wrap=True)
    table = new_table("reward", "mean", *(status.replace("_", " ") for status in STATUSES), right=range(1, 8))
    for name, summary in summaries.items():
        counts = [share(summary.statuses[status], summary.n) for status in STATUSES]
        table.add_row(plain(name, "bold"), mean(summary.mean), *map(plain, counts))
        for part, value in summary.parts.items():
            table.add_row(plain(f"  {part}"), mean(value))
    out.print(table)
    for name, summary in summaries.items():
        if summary.failed:
            out.print(plain(f"{name} could not score {summary.failed} rows; they are in no mean"), soft_wrap=True)
        if summary.not_applicable:
            text = f"{name} does not apply to {summary.not_applicable} rows, which lack a column that it needs"
            out.print(plain(text), soft_wrap=True)


def print_groups(by: Sequence[str], groups: Mapping[str, Mapping[tuple[str, ...], Summary]], out: Console) -> None:
    """Print means per group of rows; `groups` is by reward, then by the values of the columns `by`."""
    keys = list(dict.fromkeys(key for found in groups.values() for key in found))
    table = new_table(*by, "rows", *groups, right=range(len(by), len(by) + 1 + len(groups)))
    for key in keys[:MAX_GROUPS]:
        found = [summaries[key] for summaries in groups.values()]
        cells = [f"{mean(one.mean)}{f' ({one.failed} failed)' if one.failed else ''}" for one in found]
        table.add_row(*(plain(visible(value)) for value in key), str(found[0].n), *cells)
    out.print(table)
    if len(keys) > MAX_GROUPS:
        out.print(plain(f"{len(keys) - MAX_GROUPS} more groups are not shown; choose fewer columns with --by"))
