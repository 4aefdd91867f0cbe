"""`cpt report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cpt.report.page import build_report


def report(run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or a copy of one.")]) -> None:
    """Build a run's report.html again, from its files alone."""
    typer.echo(build_report(run_dir))
