"""`cpt rewards`: list, score, audit, agree and study. Thin, and nothing heavy is imported before it has to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cpt.common import terminal

if TYPE_CHECKING:
    from rewards.lab.attacks import Example
    from rewards.lab.choose import Chosen
    from rewards.lab.saved import Saved

app = typer.Typer(
    help="The reward laboratory: list rewards, score completions, attack a reward, compare two, study their effect.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

REWARD = 'A reward\'s name, or JSON such as \'{"type": "number", "read": "tolerant"}\'; a list of those is a composite.'
File = Annotated[
    Path, typer.Argument(metavar="FILE", help="Saved completions: records.parquet, other parquet, JSON lines.")
]
Rewards = Annotated[list[str] | None, typer.Option("--reward", help=f"{REWARD} Can be repeated.")]
RewardsFile = Annotated[
    Path | None,
    typer.Option("--rewards", metavar="FILE", help="YAML or JSON: a list of rewards, or a recipe's `reward:`."),
]
Columns = Annotated[
    list[str] | None, typer.Option("--column", metavar="OURS=THEIRS", help="A column's other name, as in gold=answer.")
]
TemplateName = Annotated[
    str | None,
    typer.Option(
        "--template",
        help="The asked-for format: direct, think, think_boxed or boxed. Default: the file's, else direct.",
    ),
]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", min=1, help="The token limit, where the file has none.")]
Out = Annotated[Path | None, typer.Option("--out", help="Write the rows to this .parquet or .jsonl file.")]
TrustRewards = Annotated[
    bool, typer.Option("--trust-rewards", help="Execute rewards whose Python code came with the file or run folder.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace what is at --out.")]


@app.command(name="list")
def list_rewards(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Show this one in full.")] = None,
) -> None:
    """List the rewards with formula, parameters and source."""
    from cpt.cli.rewards_tables import print_entry, print_list
    from cpt.common.console import console
    from rewards import registry

    if name is None:
        print_list([registry.get(one) for one in registry.names()], console())
    else:
        print_entry(registry.get(name), console())


@app.command()
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
    from cpt.cli.rewards_tables import print_groups, print_summaries
    from cpt.common.console import console
    from rewards.lab.breakdown import by_group, summarise, with_scores
    from rewards.lab.choose import choose
    from rewards.lab.saved import score_saved

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


@app.command()
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
    """Attack rewards with completions that must not pay, and try other spellings of right answers.

    A recipe's rewards (--rewards RECIPE) are tried on questions of its own tasks, unless --on brings others.

    Exit code 1 if something pays that should not, or the other way round, and no docstring admits it.
    """
    from cpt.cli.rewards_tables import print_audit
    from cpt.common.console import console
    from rewards import registry
    from rewards.lab.audit_plan import audit_chosen, check_examples, read_examples
    from rewards.lab.choose import choose

    chosen = choose([*(name or ()), *(registry.names() if every else ())], in_file(rewards, trust_rewards))
    examples = read_examples(on) if on else []
    if on:
        for one in chosen:
            check_examples(one, examples, on)
    if len(examples) > rows:
        typer.echo(f"tried on the first {rows} of {len(examples)} questions; --rows {len(examples)} tries them all")
        examples = examples[:rows]
    of_tasks = tasks_of(rewards) if rewards and not on else {}
    screen, failed = console(), []
    for one in chosen:
        found = audit_chosen(one, examples or of_tasks.get(one.label, ()), template or ())
        print_audit(one.label, found, show, screen)
        if not found.passed:
            failed.append(one.label)
    if failed:
        raise typer.Exit(1)


@app.command()
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
    from cpt.cli.rewards_tables import print_agreement, print_disagreements
    from cpt.common.console import console
    from rewards.lab.agreement import agree as compare
    from rewards.lab.breakdown import with_scores
    from rewards.lab.choose import choose
    from rewards.lab.saved import score_saved

    if a == b:
        raise ValueError(f"{a}: agrees with itself; name two rewards")
    first, second = choose([a, b])
    saved = read(on, column, template, max_tokens)
    scores = (score_saved(saved, first.reward, first.label), score_saved(saved, second.reward, second.label))
    found = compare(*scores, threshold)
    names, screen = (first.label, second.label), console()
    print_agreement(names, found, screen)
    rows = [*found.disagreeing, *found.failed]
    if rows and show:
        print_disagreements(saved, names, scores, rows, show, screen)
    if out is not None:
        table = with_scores(saved, dict(zip(names, scores, strict=True)))
        write(out, {column: [values[i] for i in rows] for column, values in table.items()})


@app.command()
def study(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe, such as recipes/reward_study.yaml.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Overrides, such as arms.grpo.method.max_steps=20.")
    ] = None,
    arm: Annotated[
        str | None, typer.Option(help="The arm to run under every reward set. Default: the only one with a reward.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder. Default: runs/<name of the study>.")] = None,
    address: Annotated[str | None, typer.Option(help="An existing Ray cluster, such as ray://head:10001.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete what an earlier run left in the folder.")] = False,
    trust_rewards: TrustRewards = False,
) -> None:
    """Run one arm of a recipe under each of its `reward_sets:`, and show what each reward taught beside the truth.

    Without `reward_sets:`, the usual ones are compared. The same command again goes on where it stopped.
    """
    from cpt.cli.rewards_study import run_study

    terminal.ctrl_c.line = terminal.GOES_ON
    raise typer.Exit(
        run_study(recipe, overrides or (), arm=arm, out=out, address=address, fresh=fresh, trust_rewards=trust_rewards)
    )


def in_file(path: Path | None, trust: bool) -> Sequence[Chosen]:
    """The rewards of a file, if one is named."""
    if path is None:
        return ()
    from cpt.cli.rewards_file import rewards_in

    return rewards_in(path, trust=trust)


def tasks_of(path: Path) -> Mapping[str, Sequence[Example]]:
    """What a recipe's rewards are tried on, by label: questions of its own tasks."""
    from cpt.cli.rewards_file import examples_in

    return examples_in(path)


def read(file: Path, column: Sequence[str] | None, template: str | None, max_tokens: int | None) -> Saved:
    """The rows of a file, with columns renamed and filled in as the options say."""
    from rewards.lab.saved import read_saved

    renamed: dict[str, str] = {}
    for text in column or ():
        ours, equals, theirs = text.partition("=")
        if not (ours and equals and theirs):
            raise ValueError(f"--column {text}: has to be OURS=THEIRS, as in --column gold=answer")
        renamed[ours] = theirs
    return read_saved(file, renamed, {"template": template, "max_tokens": max_tokens})


def grouping(saved: Saved, by: Sequence[str] | None) -> list[str]:
    """The columns to group by: those asked for, else those of arm, stage and task that have several values."""
    if by is not None:
        from rewards.registry import nearest

        for name in by:
            if name not in saved.columns:
                raise ValueError(f"{saved.path}: has no column {name!r} to group by{nearest(name, saved.columns)}")
        return list(by)
    return [name for name in ("arm", "stage", "task") if len(set(map(str, saved.columns.get(name, ())))) > 1]


def check_out(out: Path | None, source: Path, force: bool) -> None:
    """ValueError where the result would replace the input, or something else without --force; before any work."""
    if out is None:
        return
    if out.suffix not in (".parquet", ".jsonl"):
        raise ValueError(f"{out}: unknown kind of file; --out has to end in .parquet or .jsonl")
    if out.exists() and source.exists() and out.samefile(source):
        raise ValueError(f"{out}: is the file that is read; give --out another name")
    if out.is_dir():
        raise ValueError(f"{out}: is a folder; give --out a file's name")
    if files := [parent for parent in out.parents if parent.exists() and not parent.is_dir()]:
        raise ValueError(f"{out}: can't be written, since {files[0]} is a file; give --out another name")
    if out.exists() and not force:
        raise ValueError(f"{out}: exists; --force replaces it")


def write(out: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write the columns, whole or not at all, and say so."""
    from cpt.common.files import atomic_path
    from rewards.lab.saved import write_table

    with atomic_path(out) as temporary:
        write_table(temporary, columns, out.suffix)
    typer.echo(f"written: {out}")
