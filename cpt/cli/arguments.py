"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe's file, or one of `cpt recipes`.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Overrides, such as arms.sft.method.learning_rate=1e-4."),
]
Arms = Annotated[list[str] | None, typer.Option("--arm", help="Only this arm; can be repeated.")]
Address = Annotated[str | None, typer.Option(help="An existing Ray cluster, such as ray://head:10001.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Delete what an earlier run left in the folder.")]
TrustRewards = Annotated[
    bool,
    typer.Option("--trust-rewards", help="Execute rewards whose Python code came with the recipe or run folder."),
]
