"""Arguments and options that several of `cpt rewards` have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
        help="The asked-for format: direct, think, think_boxed, boxed, plain, think_plain. Default: the file's.",
    ),
]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", min=1, help="The token limit, where the file has none.")]
Out = Annotated[Path | None, typer.Option("--out", help="Write the rows to this .parquet or .jsonl file.")]
TrustRewards = Annotated[
    bool, typer.Option("--trust-rewards", help="Execute rewards whose Python code came with the file or run folder.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace what is at --out.")]
