"""The recipes that come with cpt: recipes/ in a checkout, a copy of it inside an installed package."""

from __future__ import annotations

import os
from pathlib import Path

from cpt.common.keys import nearest
from cpt.recipe.source import SHIPPED


def shipped() -> dict[str, Path]:
    """Name to file, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def find(path: Path) -> Path:
    """`path`, or the shipped recipe that it names where there is no such file: `quickstart`, `recipes/quickstart.yaml`.

    A name that is neither comes back as it is.
    """
    named = str(path.parent) in (".", "recipes") and path.suffix in ("", ".yaml")
    return path if os.path.exists(path) or not named else shipped().get(path.stem, path)


def text_of(name: str) -> str:
    """A shipped recipe's text. ValueError if none has that name."""
    known = shipped()
    if name not in known:
        raise ValueError(f"no recipe {name!r} comes with cpt{nearest(name, list(known))}")
    return known[name].read_text(encoding="utf-8")


def headline(path: Path) -> str:
    """The first sentence of what a recipe's header says of it, after the line with its command."""
    lines = path.read_text(encoding="utf-8").splitlines()
    header = []
    for line in lines:
        if not line.startswith("#"):
            break
        header.append(line.lstrip("# ").strip())
    text = " ".join(header[1:])
    return text.partition(". ")[0].rstrip(".")
