"""The command line. Thin: every command calls one function, and nothing heavy is imported before it has to be."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cpt import __version__
from cpt.common import terminal

terminal.leave_working_folder()  # before anything is imported that might be found there instead

import typer  # noqa: E402
from typer.core import TyperGroup  # noqa: E402

from cpt.cli.rewards import app as rewards_app  # noqa: E402
from cpt.common.console import console, printable  # noqa: E402
from cpt.common.errors import RunFailed  # noqa: E402


class Commands(TyperGroup):
    """The commands. Ctrl-C ends each of them with one line and exit code 130."""

    def invoke(self, ctx: Any) -> Any:
        """See `click.Group.invoke`."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            terminal.ctrl_c.tell()
            raise typer.Exit(terminal.INTERRUPTED) from None


app = typer.Typer(
    name="cpt",
    cls=Commands,
    help="What each way of post-training a multimodal model, one task after another, costs in what it already knew.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
model_app = typer.Typer(help="The built-in model.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(model_app, name="model")
app.add_typer(rewards_app, name="rewards")

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe's file, or one of `cpt recipes`.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Overrides, such as arms.sft.method.learning_rate=1e-4."),
]
Arms = Annotated[list[str] | None, typer.Option("--arm", help="Only this arm; can be repeated.")]
TrustRewards = Annotated[
    bool,
    typer.Option("--trust-rewards", help="Execute rewards whose Python code came with the recipe or run folder."),
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cpt {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    recipe: RecipePath,
    overrides: Overrides = None,
    arm: Arms = None,
    out: Annotated[Path | None, typer.Option(help="Run folder. Default: runs/<name of the recipe>.")] = None,
    address: Annotated[str | None, typer.Option(help="An existing Ray cluster, such as ray://head:10001.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete what an earlier run left in the folder.")] = False,
    trust_rewards: TrustRewards = False,
) -> None:
    """Run a recipe, or go on where the same command stopped."""
    from cpt.plan.make import make_plan
    from cpt.plan.preflight import preflight
    from cpt.recipe import load_recipe
    from cpt.store.folder import default_folder

    loaded = load_recipe(recipe, overrides or (), trust_rewards=trust_rewards)
    folder = out or default_folder(loaded.name)
    make_plan(loaded, arm)  # an unknown --arm is an error before the folder is touched
    preflight(loaded, folder, address)
    from cpt.run.loop import run_recipe

    terminal.ctrl_c.line = terminal.GOES_ON
    raise typer.Exit(run_recipe(loaded, out=folder, arms=arm, address=address, fresh=fresh))


@app.command()
def plan(
    recipe: RecipePath,
    overrides: Overrides = None,
    arm: Arms = None,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Print the recipe with every default filled in.")
    ] = False,
    trust_rewards: TrustRewards = False,
) -> None:
    """Show arms, stages, samples, steps, passes over the data and disk of a recipe. Starts nothing."""
    from cpt.cli.plan_table import print_plan
    from cpt.plan.make import make_plan
    from cpt.plan.preflight import check_fit
    from cpt.recipe import load_recipe
    from cpt.run.rows import check_first_rows, run_reads
    from cpt.store.folder import default_folder

    loaded = load_recipe(recipe, overrides or (), trust_rewards=trust_rewards)
    if resolved:
        typer.echo(loaded.dump_yaml(), nl=False)
        return
    planned = make_plan(loaded, arm)
    check_fit(planned)
    check_first_rows(run_reads(planned))
    print_plan(planned, console(), default_folder(loaded.name))


@app.command()
def report(run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or a copy of one.")]) -> None:
    """Build a run's report.html again, from its files alone."""
    from cpt.report.build import build_report

    typer.echo(build_report(run_dir))


@app.command(name="eval")
def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A Hugging Face folder, such as a stage's policy.")],
    task: Annotated[list[str] | None, typer.Option(help="Only this task; can be repeated. Default: all.")] = None,
    prompt: Annotated[Literal["direct", "think"], typer.Option(help="Prompt style.")] = "direct",
    samples: Annotated[int, typer.Option(min=1, help="Test samples per task.")] = 256,
    max_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens per completion. Default: as in recipes, enough for the built-in model."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the records. Default: only the table.")] = None,
) -> None:
    """Evaluate a model on tasks, by free generation."""
    from cpt.plan.preflight import available_model
    from cpt.tasks import get_task, task_names

    names = list(dict.fromkeys(task or task_names()))
    for name in names:
        get_task(name)
    available_model(model)
    from cpt.cli.evaluate import evaluate_folder

    evaluate_folder(model, names, prompt, samples, out, max_tokens)


@app.command(name="filter")
def filter_(
    recipe: RecipePath,
    task: Annotated[str, typer.Option(help="A task of the recipe, trained on or general.")],
    overrides: Overrides = None,
    arm: Annotated[
        str | None,
        typer.Option(help="The arm whose filter it is. Default: the first with one, else the first that samples."),
    ] = None,
    policy: Annotated[
        str | None, typer.Option(help="A Hugging Face folder to sample from. Default: the recipe's model.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for filter.parquet. Default: runs/<name of the recipe>-filter/<task>.")
    ] = None,
    trust_rewards: TrustRewards = False,
) -> None:
    """Filter the training prompts of one task by a policy's rollouts; train nothing."""
    from cpt.cli.filter import filter_task
    from cpt.recipe import load_recipe
    from cpt.store.folder import default_folder

    loaded = load_recipe(recipe, overrides or (), trust_rewards=trust_rewards)
    filter_task(loaded, task, arm, policy, out or default_folder(f"{loaded.name}-filter") / task)


@app.command()
def tasks() -> None:
    """List the built-in tasks."""
    from rich.console import Console
    from rich.table import Table

    from cpt.tasks import get_task, task_names

    table = Table("task", "family", "role", "about")
    for name in task_names():
        found = get_task(name)
        table.add_row(found.name, found.family, found.role, found.about)
    Console().print(table)


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Print this one, to start your own from.")] = None,
) -> None:
    """List the recipes that come with cpt. Their names stand for their files in every command."""
    from cpt.recipe.shipped_recipes import headline, shipped, text_of

    if name is not None:
        typer.echo(text_of(name), nl=False)
        return
    for one, path in shipped().items():
        typer.echo(f"{one:16} {headline(path)}")


@app.command()
def doctor(
    deep: Annotated[bool, typer.Option("--deep", help="Also start a local Ray.")] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="First mend torchvision beside a CPU torch in this environment.")
    ] = False,
) -> None:
    """Show versions and hardware, what works here, and what to do about what doesn't."""
    if repair:
        from cpt.cli.torchvision_repair import run as run_repair

        if code := run_repair():
            raise typer.Exit(code)
    from cpt.cli.doctor import diagnose, print_report

    raise typer.Exit(print_report(diagnose(deep)))


@model_app.command()
def build(
    out: Annotated[Path, typer.Option(help="Folder for the new model.")] = Path("runs/tiny-qwen2_5-vl"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and data.")] = 0,
) -> None:
    """Make the built-in model from scratch."""
    from cpt.cli.build_model import build_model

    build_model(out, seed=seed)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `cpt`. A ValueError is the user's to mend (exit code 2); a run that failed is 1; no tracebacks.

    CPT_DEBUG=1 shows the traceback.
    """
    with terminal.lasting_output() as out, terminal.patient_interrupts():
        code = _code_of(argv)
        out.flush()
        if reason := terminal.lost(out):
            print(f"cpt: {reason}", file=sys.stderr)
            asked = list(sys.argv[1:] if argv is None else argv)
            code = code or (0 if asked[:1] == ["run"] else 1)  # a run's results are in its folder
    if argv is None:
        terminal.end_on_interrupt()
    sys.exit(code)


def _code_of(argv: Sequence[str] | None) -> int | str | None:
    """Run the command; its exit code."""
    try:
        app(args=argv, prog_name="cpt")
    except (ValueError, RunFailed) as error:
        if os.environ.get("CPT_DEBUG"):
            raise
        for line in str(error).split("\n") if str(error) else [repr(error)]:
            print(f"cpt: error: {printable(line)}", file=sys.stderr)  # what a recipe says must not act on a terminal
        return 1 if isinstance(error, RunFailed) else 2
    except OSError as error:  # not what the user said, but what the machine has not: a full disk, above all
        if os.environ.get("CPT_DEBUG"):
            raise
        where = f"{error.filename}: " if error.filename else ""
        after = "; make room, and run the same command again" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        print(f"cpt: error: {printable(where)}{error.strerror or error}{after}", file=sys.stderr)
        return 1
    except SystemExit as end:
        return end.code
    return 0


if __name__ == "__main__":
    main()
