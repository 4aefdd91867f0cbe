"""What modules define, import and set, read from their sources without importing them: TRL takes seconds, vLLM more."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def file_of(module: str) -> Path | None:
    """The source of a module, found without importing it; None where there is none."""
    top, *rest = module.split(".")
    spec = find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0], *rest)
    kinds = (folder / "__init__.py", *(folder.with_suffix(kind) for kind in (".py", ".pyi")))  # .pyi: a compiled one
    return next((path for path in kinds if path.is_file()), None)


def imports_of(module: str) -> dict[str, tuple[str, str]]:
    """Names that a module has from elsewhere, at any depth of its source: name → (module, name there)."""
    path = file_of(module)
    assert path is not None, module
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return imported(ast.walk(tree(path)), package)


def imported(nodes: Iterable[ast.AST], package: str) -> dict[str, tuple[str, str]]:
    found = {}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            start = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (start, node.module) if part)
            found |= {alias.asname or alias.name: (module, alias.name) for alias in node.names}
    return found


def defined(module: str, name: str, seen: frozenset[tuple[str, str]] = frozenset()) -> tuple[str, ast.AST] | None:
    """Module and statement that define a name, through as many re-exports as there are."""
    path = file_of(module)
    if path is None or (module, name) in seen:
        return None
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return module, node
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return module, node
    if name not in (known := imports_of(module)):
        return None
    return defined(*known[name], seen | {(module, name)})


@cache
def attributes(module: str, name: str) -> frozenset[str]:
    """What a class and those it inherits from define, set on `self` or annotate; as far as the sources tell."""
    found = defined(module, name)
    if found is None or not isinstance(found[1], ast.ClassDef):
        return frozenset()
    where, node = found
    own = own_attributes(node)
    for base in node.bases:
        base = base.value if isinstance(base, ast.Subscript) else base
        if isinstance(base, ast.Name) and base.id != name:
            own |= attributes(where, base.id)
    return own


def is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


@cache
def own_attributes(node: ast.AST) -> frozenset[str]:
    """What a class defines, assigns to or sets on `self`."""
    return frozenset(stored(ast.walk(node)))


def stored(nodes: Iterable[ast.AST]) -> set[str]:
    own = set()
    for below in nodes:
        if isinstance(below, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            own.add(below.name)
        elif isinstance(below, ast.Name) and isinstance(below.ctx, ast.Store):
            own.add(below.id)
        elif isinstance(below, ast.Attribute) and isinstance(below.ctx, ast.Store) and is_self(below.value):
            own.add(below.attr)
    return own


def attributes_set(path: Path) -> set[str]:
    """Attributes that a file sets, on whatever."""
    nodes = (node for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute))
    return {node.attr for node in nodes if isinstance(node.ctx, ast.Store)}
