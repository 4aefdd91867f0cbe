"""`cpt export`: a run's records as the logs of another program."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Annotated, Literal

import typer

from cpt.common.console import counted
from cpt.report.exports.evaluations import evaluations
from cpt.report.exports.inspect_log import write_inspect
from cpt.report.exports.lmms_eval import write_lmms_eval
from cpt.report.load import load_run


def export(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or a copy of one.")],
    to: Annotated[Literal["lmms-eval", "inspect"], typer.Option(help="Whose logs.")],
    out: Annotated[Path, typer.Option(help="Folder for them: one file per policy and task.")],
) -> None:
    """Write a run's records as logs of lmms-eval or Inspect."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: exists and is not empty; choose another --out")
    found = list(evaluations(load_run(run_dir)))
    if not found:
        raise ValueError(f"{run_dir}: nothing is evaluated yet")
    files = 0
    for _, group in groupby(found, key=lambda one: one.folder):
        several = list(group)
        written = write_lmms_eval(out, several) if to == "lmms-eval" else [write_inspect(out, one) for one in several]
        files += len(written)
    samples = sum(len(one.records) for one in found)
    typer.echo(f"{out}: {counted(samples, 'sample')} in {counted(files, 'log')} of {to}")
