"""The import direction, read from the sources: what the science rests on never reaches for the machinery."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]

# From the ground up. A string is a room: a module and everything below it, or several. A room imports from itself and
# from lower rows, never from its neighbours in the same row or from above. Of two names that fit, the longer counts.
LAYERS = [
    ["rewards", "cpt.pictures"],
    ["cpt cpt.types cpt.words cpt.terminal cpt.reaper"],
    ["cpt.digests cpt.parquet"],
    ["cpt.files", "cpt.models.locate cpt.models.image_text", "cpt.processes"],
    [
        "cpt.tasks",
        "cpt.methods",
        "cpt.evaluate.matrix cpt.evaluate.retention cpt.evaluate.scores cpt.evaluate.stats cpt.evaluate.transitions "
        "cpt.evaluate.intervals cpt.evaluate.curves "
        "cpt.evaluate.drift",
    ],
    ["cpt.recipe"],
    ["cpt.plan cpt.plan_types cpt.plan_table cpt.plan_passes cpt.disk cpt.preflight"],
    ["cpt.models", "cpt.store cpt.folder cpt.manifest cpt.continued cpt.results cpt.shapes"],
    ["cpt.rollout"],
    ["cpt.train", "cpt.evaluate"],
    ["cpt.report", "cpt.progress", "cpt.rows cpt.rows_fit"],
    ["cpt.cluster cpt.local_ray"],
    ["cpt.run", "cpt.build_model"],
    ["cpt.evaluate_folder", "cpt.filter_task"],
    ["cpt.doctor", "cpt.torchvision_repair", "cpt.rewards_cli cpt.rewards_tables cpt.rewards_file cpt.rewards_study"],
    ["cpt.cli"],
]

# What a room must not import, not even inside a function. `if TYPE_CHECKING:` does not count.
MACHINERY = {"torch", "transformers", "trl", "vllm", "ray"}
FORBIDDEN = {
    "cpt.pictures": MACHINERY,
    "cpt.types": MACHINERY,
    "cpt.files": MACHINERY,
    "cpt.models.locate": MACHINERY,
    "cpt.models.image_text": MACHINERY,
    "rewards": MACHINERY | {"cpt", "datasets"},
    "cpt.tasks": MACHINERY,
    "cpt.methods": {"trl", "vllm", "ray"},
    "cpt.evaluate.matrix": MACHINERY,
    "cpt.evaluate.retention": MACHINERY,
    "cpt.evaluate.scores": MACHINERY,
    "cpt.evaluate.stats": MACHINERY,
    "cpt.evaluate.intervals": MACHINERY,
    "cpt.evaluate.curves": MACHINERY,
    "cpt.evaluate.transitions": MACHINERY,
    "cpt.evaluate.drift": MACHINERY,
    "cpt.recipe": MACHINERY,
    "cpt.plan": MACHINERY,
    "cpt.plan_types": MACHINERY,
    "cpt.plan_table": MACHINERY,
    "cpt.plan_passes": MACHINERY,
    "cpt.disk": MACHINERY,
    "cpt.store": MACHINERY,
    "cpt.folder": MACHINERY,
    "cpt.manifest": MACHINERY,
    "cpt.continued": MACHINERY,
    "cpt.results": MACHINERY,
    "cpt.shapes": MACHINERY,
    "cpt.digests": MACHINERY,
    "cpt.parquet": MACHINERY,
    "cpt.report": MACHINERY,
    "cpt.progress": MACHINERY,
    "cpt.rewards_cli": MACHINERY,
    "cpt.rewards_tables": MACHINERY,
    "cpt.rewards_file": MACHINERY,
    "cpt.cli": MACHINERY,
}


@dataclass(frozen=True)
class Import:
    """One imported name: where, and whether only a type checker sees it."""

    module: str
    line: int
    name: str
    typing_only: bool


def belongs(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def sources() -> dict[str, Path]:
    """Every module of the two packages, by dotted name."""
    return {module_of(path): path for package in ("cpt", "rewards") for path in sorted((ROOT / package).rglob("*.py"))}


def typing_only_nodes(tree: ast.Module) -> set[ast.AST]:
    """Everything below an `if TYPE_CHECKING:`."""
    guarded = (
        node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    )
    return {below for node in guarded for statement in node.body for below in ast.walk(statement)}


def imports_in(module: str, source: str, is_package: bool = False) -> list[Import]:
    """Every import statement of a module at any depth; `from package import module` counts as the module."""
    tree = ast.parse(source)
    guarded = typing_only_nodes(tree)
    found = []
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, base] if base else parts)
            dotted = [f"{base}.{alias.name}" for alias in node.names]
            names = [name if name in sources() else base for name in dotted]
        found += [Import(module, node.lineno, name, node in guarded) for name in dict.fromkeys(names)]
    return found


@cache
def imports() -> list[Import]:
    return [
        found
        for module, path in sources().items()
        for found in imports_in(module, path.read_text(encoding="utf-8"), path.name == "__init__.py")
    ]


def place(module: str) -> tuple[int, str] | None:
    """Row number and room of a module, None if the table has no place for it."""
    places = [
        (len(prefix), row, room)
        for row, rooms in enumerate(LAYERS)
        for room in rooms
        for prefix in room.split()
        # The package itself is not a place for everything in it.
        if (module == prefix if prefix == "cpt" else belongs(module, prefix))
    ]
    return max(places)[1:] if places else None


def test_every_module_has_a_place():
    homeless = [module for module in sources() if place(module) is None]
    assert not homeless, f"give these a place in LAYERS: {homeless}"


def test_imports_point_downwards():
    wrong = []
    for found in imports():
        if not belongs(found.name, "cpt") and not belongs(found.name, "rewards"):
            continue
        importer, imported = place(found.module), place(found.name)
        assert importer is not None
        assert imported is not None, f"{found.module}:{found.line} imports {found.name}, which has no place in LAYERS"
        if importer != imported and importer[0] <= imported[0]:
            wrong.append(f"{found.module}:{found.line} imports {found.name}")
    assert not wrong


@pytest.mark.parametrize("room", FORBIDDEN)
def test_no_machinery_where_it_is_forbidden(room: str):
    wrong = [
        f"{found.module}:{found.line} imports {found.name}"
        for found in imports()
        if belongs(found.module, room)
        and not found.typing_only
        and any(belongs(found.name, name) for name in FORBIDDEN[room])
    ]
    assert not wrong


def test_what_is_imported_is_declared():
    """A package that happens to be installed because another one needs it may go with the next release."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = project["dependencies"] + [text for texts in project["optional-dependencies"].values() for text in texts]
    declared = {canonicalize_name(Requirement(text).name) for text in texts}
    distributions = packages_distributions()
    undeclared = set()
    for found in imports():
        top = found.name.partition(".")[0]
        if top in sys.stdlib_module_names or top in ("cpt", "rewards"):
            continue
        # The two distributions of vLLM exclude each other; the one that is not installed here maps to nothing.
        names = {canonicalize_name(name) for name in distributions.get(top, [top])}
        if not names & declared:
            undeclared.add(f"{found.module}:{found.line} imports {found.name}")
    assert not undeclared


def loaded_after(*modules: str) -> set[str]:
    """Which parts of the machinery are loaded after importing `modules` in a fresh interpreter."""
    code = f"import sys, json\nfor name in {list(modules)!r}: __import__(name)\nprint(json.dumps(sorted(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    return MACHINERY.intersection(json.loads(result.stdout))


def test_the_command_line_starts_without_machinery():
    if "cpt.cli" not in sources():
        pytest.skip("there is no command line yet")
    assert loaded_after("cpt.cli") == set()


def test_the_science_loads_without_machinery():
    """What a package's __init__ pulls in counts too."""
    pure = [
        module
        for module in sources()
        if any(belongs(module, room) for room, no in FORBIDDEN.items() if no >= MACHINERY)
    ]
    assert loaded_after(*pure) == set()


def test_the_reader_of_imports_sees_all_kinds():
    source = """
from typing import TYPE_CHECKING
import torch.nn as nn, os
from . import types
from .types import Record
from cpt import types as nouns
if TYPE_CHECKING:
    import ray
def late():
    from vllm import LLM
"""
    found = {(item.name, item.typing_only) for item in imports_in("cpt.example", source)}
    assert found == {
        ("typing", False),
        ("torch.nn", False),
        ("os", False),
        ("cpt.types", False),
        ("ray", True),
        ("vllm", False),
    }
    in_package = imports_in("cpt.example", "from . import a\nfrom .. import types", is_package=True)
    assert [item.name for item in in_package] == ["cpt.example", "cpt.types"]


def test_the_longer_name_decides():
    assert place("cpt.evaluate.stats") != place("cpt.evaluate.evaluate")
    assert place("cpt.evaluate") == place("cpt.evaluate.evaluate")
    assert place("cpt.nowhere") is None
