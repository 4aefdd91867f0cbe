"""The import direction, read from the sources. Lower layers import no torch, trl, vllm or ray."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]

# From the lowest to the highest. A name stands for a module and everything below it, and imports from itself and from
# lower rows only: not from others in its row, not from above. Of two names that fit, the longer counts.
LAYERS = [
    ["rewards"],
    ["rewards.lab"],
    ["cpt"],
    ["cpt.common"],
    ["cpt.types"],
    ["cpt.store", "cpt.tasks", "cpt.methods"],
    ["cpt.models"],
    ["cpt.recipe"],
    ["cpt.plan"],
    ["cpt.rollout"],
    ["cpt.evaluate"],
    ["cpt.judge"],
    ["cpt.train"],
    ["cpt.report"],
    ["cpt.run"],
    ["cpt.cli"],
]

# What a room must not import, not even inside a function. `if TYPE_CHECKING:` does not count. The longest name decides.
MACHINERY = frozenset(("torch", "transformers", "trl", "vllm", "ray"))
FORBIDDEN = {
    "rewards": MACHINERY | {"cpt", "datasets"},
    "cpt.types": MACHINERY,
    "cpt.store": MACHINERY,
    "cpt.tasks": MACHINERY,
    **dict.fromkeys([f"cpt.tasks.world.{name}" for name in ("attention", "generate", "pretrain", "tiny")], frozenset()),
    "cpt.methods": MACHINERY - {"torch", "transformers"},
    **dict.fromkeys(("cpt.models.locate", "cpt.models.image_text"), MACHINERY),
    "cpt.recipe": MACHINERY,
    "cpt.plan": MACHINERY - {"ray"},
    "cpt.evaluate": MACHINERY,
    "cpt.evaluate.evaluators": frozenset(),
    "cpt.judge": MACHINERY,
    "cpt.report": MACHINERY,
    "cpt.cli": MACHINERY,
    "cpt.cli.build_model": frozenset(),
}
# What takes a tenth of a second or more to import, and may therefore be imported inside a function: in the modules that
# a command loads before it knows whether they are needed, and nowhere else. So may modules of ours that import these.
LAZY = MACHINERY | frozenset((
    "accelerate", "datasets", "httpx", "huggingface_hub", "jinja2", "math_verify", "matplotlib", "numpy", "peft",
    "pyarrow", "rich", "safetensors.torch", "scipy", "sklearn",
))  # fmt: skip
QUICK = [
    "cpt.cli", "cpt.common", "cpt.run", "cpt.recipe", "cpt.plan", "cpt.report", "cpt.methods", "cpt.train.stage",
    "cpt.run.worker", "cpt.rollout.pool", "cpt.rollout.local", "cpt.types", "rewards",
]  # fmt: skip
# May be imported inside any function: their optional imports are hidden first (`cpt.models.lean`), and vLLM reads
# environment variables that an engine sets.
HIDING = ("transformers", "trl", "vllm")
# Inside of functions in what `cpt doctor` loads: it says itself that they are missing.
DOCTOR = "cpt.cli.doctor"
MAY_BE_MISSING = MACHINERY | {"safetensors"}
# Started by its path: it says first where this package is.
BY_PATH = ("rewards.python_worker",)
# Programs, which are not imported.
PROGRAMS = {"cpt.cli.__main__"}


def forbidden(module: str) -> frozenset[str]:
    """What this module must not import."""
    found = [room for room in FORBIDDEN if belongs(module, room)]
    return FORBIDDEN[max(found, key=len)] if found else frozenset()


@dataclass(frozen=True)
class Import:
    """One imported name: where, whether only a type checker sees it, and whether it is inside a function."""

    module: str
    line: int
    name: str
    typing_only: bool
    late: bool = False


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


def nodes_in_functions(tree: ast.Module) -> set[ast.AST]:
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {below for function in functions for below in ast.walk(function)}


def imports_in(module: str, source: str, is_package: bool = False) -> list[Import]:
    """Every import statement of a module at any depth; `from package import module` counts as the module."""
    tree = ast.parse(source)
    guarded, late = typing_only_nodes(tree), nodes_in_functions(tree)
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
        where = (node in guarded, node in late)
        found += [Import(module, node.lineno, name, *where) for name in dict.fromkeys(names)]
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


def test_no_machinery_where_it_is_forbidden():
    wrong = [
        f"{found.module}:{found.line} imports {found.name}"
        for found in imports()
        if not found.typing_only and any(belongs(found.name, name) for name in forbidden(found.module))
    ]
    assert not wrong


def test_no_circles():
    """Not even a lazy one, or one that only a type checker sees."""
    reached = {module: set() for module in sources()}
    for found in imports():
        if found.name in reached and found.name != found.module:
            reached[found.module].add(found.name)
    left = dict(reached)
    while free := [module for module, needs in left.items() if not needs & left.keys()]:
        for module in free:
            del left[module]
    while ends := [module for module in left if not any(module in needs for needs in left.values())]:
        for module in ends:  # stands above a circle, in none itself
            del left[module]
    assert not left, f"these import each other: {sorted(left)}"


def test_the_root_holds_packages_and_the_nouns():
    assert {path.name for path in (ROOT / "cpt").glob("*.py")} == {"__init__.py", "types.py"}


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


@cache
def at_once() -> dict[str, set[str]]:
    """Module → all that is imported when it is, packages on the way and what others import in turn included."""
    loads: dict[str, set[str]] = {module: set() for module in sources()}
    for found in imports():
        if not found.typing_only and not found.late:
            loads[found.module] |= {found.name, found.name.rpartition(".")[0]}
    for module, names in loads.items():
        names.add(module.rpartition(".")[0])
    grown = True
    while grown:
        grown = False
        for names in loads.values():
            more = set().union(*(loads[name] for name in names if name in loads)) - names
            names |= more
            grown = grown or bool(more)
    return loads


def takes_long(name: str) -> bool:
    """Whether an import has to wait for what is in LAZY."""
    return any(belongs(one, lazy) for one in {name, *at_once().get(name, ())} for lazy in LAZY)


def is_quick(module: str) -> bool:
    """Whether a module is one of QUICK, or imported by one of them at once."""
    quick = [name for name in sources() if any(belongs(name, room) for room in QUICK)]
    return module in quick or any(module in at_once()[name] for name in quick)


def may_be_late(found: Import) -> bool:
    """Whether this import may stand inside a function."""
    if any(belongs(found.name, package) for package in HIDING):
        return True
    if found.name in sources() and found.module in BY_PATH:
        return True
    if found.module in doctors() and any(belongs(found.name, package) for package in MAY_BE_MISSING):
        return True
    return is_quick(found.module) and takes_long(found.name)


def doctors() -> set[str]:
    """All that `cpt doctor` loads."""
    return {DOCTOR} | at_once()[DOCTOR]


def test_only_what_takes_long_is_imported_inside_a_function():
    late = [found for found in imports() if found.late and not may_be_late(found)]
    assert not late, [f"{found.module}:{found.line} imports {found.name}: to the top" for found in late]


def loaded_after(*modules: str) -> set[str]:
    """Which parts of the machinery are loaded after importing `modules` in a fresh interpreter."""
    code = f"import sys, json\nfor name in {list(modules)!r}: __import__(name)\nprint(json.dumps(sorted(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    return MACHINERY.intersection(json.loads(result.stdout))


def test_the_command_line_starts_without_machinery():
    assert loaded_after("cpt.cli.app") == set()


def test_cpt_doctor_looks_where_packages_are_missing():
    """Called whole, but for the interpreters in which it tries the packages. It says what is missing, and fails."""
    code = f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {sorted(MAY_BE_MISSING)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
from cpt.cli import doctor
doctor.probe = lambda code: "ModuleNotFoundError: not here"
from cpt.cli.app import main
main(["doctor"])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert re.search(r"built-in model +No module named 'safetensors'", result.stdout), result.stdout


def test_the_science_loads_without_machinery():
    """What a package's __init__ pulls in counts too."""
    pure = [module for module in sources() if forbidden(module) >= MACHINERY and module not in PROGRAMS]
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
    assert [item.name for item in imports_in("cpt.example", source) if item.late] == ["vllm"]
    in_package = imports_in("cpt.example", "from . import a\nfrom .. import types", is_package=True)
    assert [item.name for item in in_package] == ["cpt.example", "cpt.types"]


def test_the_longer_name_decides():
    assert place("rewards.match") != place("rewards.lab.audit")
    assert place("cpt.nowhere") is None
    assert forbidden("cpt.tasks.world.tiny") != forbidden("cpt.tasks.world.shapes") == MACHINERY
