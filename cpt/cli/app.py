"""The command line: what commands there are, and how each of them ends.

A command's module is imported when the command is called, so that `cpt --help` is quick.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import Annotated

from cpt import __version__
from cpt.common import terminal

terminal.leave_working_folder()  # before anything is imported that might be found there instead

import typer  # noqa: E402

from cpt.cli.commands import Command, group  # noqa: E402
from cpt.common.console import printable  # noqa: E402
from cpt.common.errors import RunFailed  # noqa: E402

COMMANDS = {
    "run": Command("run:run", "Run a recipe, or go on where it stopped."),
    "plan": Command("plan:plan", "Show what a recipe would do; start nothing."),
    "report": Command("report:report", "Build a run's report.html again."),
    "eval": Command("evaluate:evaluate", "Evaluate a model on tasks."),
    "import": Command("import_:import_", "Import scores of a run's policies that another program has made."),
    "export": Command("export:export", "Write a run's records as logs of lmms-eval or Inspect."),
    "judge": Command("judge:judge", "Let a language model score recorded completions."),
    "filter": Command("filter:filter_", "Filter the training prompts of one task."),
    "tasks": Command("tasks:GROUP", "List tasks; check the data of one's own."),
    "recipes": Command("recipes:recipes", "List the recipes that come with cpt."),
    "data": Command("data:GROUP", "Get real pictures to try with."),
    "doctor": Command("doctor:doctor", "Show what works on this machine."),
    "model": Command("build_model:GROUP", "Make the built-in model."),
    "rewards": Command("rewards:GROUP", "List, apply, attack and compare rewards."),
}
app = group(
    "What each way of post-training a multimodal model, one task after another, costs in what it already knew.",
    COMMANDS,
)


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


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `cpt`. Exit code 2 for a ValueError, which the user can mend, and 1 for a run that failed.

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
    except OSError as error:  # the machine lacks something: most often room on the disk
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
