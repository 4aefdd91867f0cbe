"""The contract with other libraries' private names: all are listed, and the installed versions have every one."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path

import pytest
from definitions import (
    attributes,
    attributes_set,
    defined,
    file_of,
    imported,
    is_self,
    own_attributes,
    stored,
    tree,
)

from cpt.common.private_names import PRIVATE_NAMES, PUBLIC, TRAINING, PrivateName

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = ("accelerate", "peft", "ray", "torch", "transformers", "trl", "vllm")


def gone(name: PrivateName) -> str | None:
    """The sentence for a name that the installed version lacks; None if it is there."""
    path, (owner, _, attribute) = file_of(name.module), name.name.rpartition(".")
    if path is not None:
        if not name.name or (owner and attribute in attributes(name.module, owner)):
            return None
        if not owner and (defined(name.module, name.name) or attribute in attributes_set(path)):
            return None
    library = name.module.partition(".")[0]
    (distribution, *_) = packages_distributions()[library]
    return (
        f"{distribution} {version(distribution)} has no {name}, which cpt needs: {name.use}. Look in its source for "
        "what took its place and change that use and cpt/common/private_names.py, or keep this version out of the "
        "range in pyproject.toml"
    )


@pytest.mark.parametrize("name", PRIVATE_NAMES, ids=str)
def test_the_installed_version_has_it(name: PrivateName):
    library = name.module.partition(".")[0]
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    problem = gone(name)
    if problem and name.without:
        pytest.skip(f"{name} is gone: {name.without}")
    assert problem is None, problem


def test_a_name_that_is_gone_is_told_with_what_to_do():
    problem = gone(PrivateName("trl.trainer.grpo_trainer", "GRPOTrainer._no_such_name", "it makes coffee"))
    assert problem is not None
    assert re.match(
        r"trl \S+ has no trl\.trainer\.grpo_trainer\.GRPOTrainer\._no_such_name, which cpt needs: it", problem
    )
    assert gone(PrivateName("trl.trainer.no_such_module", "", "nothing")) is not None
    assert gone(PrivateName("trl.trainer.utils", "no_such_function", "nothing")) is not None


# What cpt touches


@dataclass(frozen=True, order=True)
class Touch:
    """A private name in the sources: an attribute, or `module.name` where it is imported or spelt out."""

    path: str
    line: int
    word: str


class Source:
    """One file: its nodes, each with the class around it, and what it imports."""

    def __init__(self, path: str, tree: ast.Module) -> None:
        self.path = path
        self.nodes = list(nodes_in(tree, None))
        flat = [node for node, _ in self.nodes]
        self.known = imported(flat, path.removesuffix(".py").replace("/", ".").rpartition(".")[0])
        self.classes = {node.name: node for node in flat if isinstance(node, ast.ClassDef)}
        self.own = stored(flat)


def nodes_in(node: ast.AST, owner: ast.ClassDef | None) -> Iterator[tuple[ast.AST, ast.ClassDef | None]]:
    owner = node if isinstance(node, ast.ClassDef) else owner
    for below in ast.iter_child_nodes(node):
        yield below, below if isinstance(below, ast.ClassDef) else owner
        yield from nodes_in(below, owner)


def is_private(word: str) -> bool:
    return re.fullmatch(r"_[A-Za-z]\w*", word) is not None and not word.startswith("_cpt_")


def of_libraries(module: str) -> bool:
    return module.partition(".")[0] in LIBRARIES


def is_public(module: str, name: str) -> bool:
    """Whether a name that is imported from a library is documented; a module is if it is in `PUBLIC` itself."""
    whole = f"{module}.{name}"
    return whole in PUBLIC or (module in PUBLIC and not is_private(name) and file_of(whole) is None)


class Sources(dict[str, Source]):
    """Files by path, and what is private in them."""

    def __init__(self, trees: dict[str, ast.Module]) -> None:
        super().__init__({path: Source(path, tree) for path, tree in trees.items()})
        own = set().union(*(source.own for source in self.values()))
        self.own = own - {name.word for name in PRIVATE_NAMES}

    def touches(self) -> list[Touch]:
        """Everything private of the libraries, in order."""
        return sorted(
            {
                Touch(source.path, node.lineno, word)
                for source in self.values()
                for node, owner in source.nodes
                for word in self._words(source, node, owner)
            }
        )

    def _words(self, source: Source, node: ast.AST, owner: ast.ClassDef | None) -> Iterator[str]:
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            if self._is_foreign(source, node, owner):
                yield node.attr
        elif isinstance(node, ast.ImportFrom) and not node.level and of_libraries(node.module or ""):
            yield from (f"{node.module}.{one.name}" for one in node.names if not is_public(node.module, one.name))
        elif isinstance(node, ast.Import):
            yield from (one.name for one in node.names if of_libraries(one.name) and one.name not in PUBLIC)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if len(node.value) > 2 and is_private(node.value) and node.value not in self.own:
                yield node.value  # for getattr and its kin, or a keyword
            elif re.fullmatch(r"\w+(\.\w+)+", node.value) and of_libraries(node.value) and node.value not in PUBLIC:
                yield node.value
        elif isinstance(node, ast.keyword) and node.arg in {name.written for name in PRIVATE_NAMES} - {""}:
            yield node.arg
        elif isinstance(node, ast.ClassDef) and (own := set(filter(is_private, own_attributes(node)))):
            yield from own & self._inherited(source, node)[1]

    def _is_foreign(self, source: Source, node: ast.Attribute, owner: ast.ClassDef | None) -> bool:
        """Whether this private attribute is a library's."""
        base = ast.unparse(node.value)
        if base in ("self", "cls", "super()") and owner is not None:
            ours, foreign = self._inherited(source, owner)
            return node.attr in foreign or node.attr not in (
                ours if base == "super()" else ours | own_attributes(owner)
            )
        top = base.partition(".")[0]
        if of_libraries(source.known.get(top, (top, ""))[0]):
            return True
        return top not in sys.stdlib_module_names and node.attr not in self.own

    def _inherited(self, source: Source, node: ast.ClassDef) -> tuple[set[str], set[str]]:
        """What the classes above this one define: ours, and those of libraries."""
        above = self._above(source, node)
        ours = set().union(*(own_attributes(one) for one in above if isinstance(one, ast.ClassDef)))
        return ours, set().union(*(attributes(*one) for one in above if isinstance(one, tuple)))

    def _above(self, source: Source, node: ast.ClassDef) -> list[ast.ClassDef | tuple[str, str]]:
        """The classes above this one: ours, and (module, name) of the libraries' that they inherit from."""
        found: list[ast.ClassDef | tuple[str, str]] = []
        for base in node.bases:
            name = ast.unparse(base.value if isinstance(base, ast.Subscript) else base)
            module, name = source.known.get(name, (None, name))
            if module is not None and of_libraries(module):
                found.append((module, name))
                continue
            place = source if module is None else self.get(module.replace(".", "/") + ".py")
            above = None if place is None else place.classes.get(name)
            if above is not None and above is not node:
                found += [above, *self._above(place, above)]
        return found

    def inherited(self) -> Iterator[tuple[str, str, str, str]]:
        """Private names that a class or one of ours above it uses of itself, for each library's class that has them.

        Module and name of that class, the private name, and who uses it. A class that is put before several of the
        libraries' uses the name of all of them.
        """
        for source in self.values():
            for node in source.classes.values():
                above = self._above(source, node)
                own = [node, *(one for one in above if isinstance(one, ast.ClassDef))]
                words = {word for one in own for word in (*used_of_self(one), *own_attributes(one)) if is_private(word)}
                for module, name in (one for one in above if isinstance(one, tuple)):
                    yield from ((module, name, word, node.name) for word in words & attributes(module, name))


def used_of_self(node: ast.ClassDef) -> set[str]:
    return {below.attr for below in ast.walk(node) if isinstance(below, ast.Attribute) and is_self(below.value)}


def lineage(module: str, name: str) -> set[tuple[str, str]]:
    """A library's class and those it inherits from, each with the module that defines it."""
    found = defined(module, name)
    if found is None or not isinstance(found[1], ast.ClassDef):
        return set()
    where, node = found
    bases = (base.value if isinstance(base, ast.Subscript) else base for base in node.bases)
    names = {base.id for base in bases if isinstance(base, ast.Name)} - {name}
    return {(where, name)}.union(*(lineage(where, base) for base in names))


@cache
def sources() -> Sources:
    files = [path for folder in ("cpt", "rewards") for path in sorted((ROOT / folder).rglob("*.py"))]
    listing = ROOT / "cpt" / "common" / "private_names.py"
    return Sources({str(path.relative_to(ROOT)): tree(path) for path in files if path != listing})


@cache
def touches() -> list[Touch]:
    return sources().touches()


def users(name: PrivateName) -> set[str]:
    return {touch.path for touch in touches() if touch.word in (name.word, str(name))}


def test_no_other_private_name_is_touched():
    listed = {name.word for name in PRIVATE_NAMES} | {str(name) for name in PRIVATE_NAMES}
    others = [f"{touch.path}:{touch.line} {touch.word}" for touch in touches() if touch.word not in listed]
    assert not others, "use a public name, or list in cpt/common/private_names.py: " + "; ".join(others)


def test_every_listed_name_is_touched():
    assert [str(name) for name in PRIVATE_NAMES if not users(name)] == []


def unlisted(found: Sources) -> list[str]:
    """What is inherited and is listed neither for that class nor for one that it inherits from."""
    listed = {(name.module, name.name) for name in PRIVATE_NAMES}
    return sorted(
        f"{module}.{name}.{word} of {user}"
        for module, name, word, user in found.inherited()
        if not {(where, f"{owner}.{word}") for where, owner in lineage(module, name)} & listed
    )


def test_a_name_is_listed_for_every_class_whose_it_is():
    assert not unlisted(sources())


def test_training_rests_on_few_private_names():
    assert len(TRAINING) <= 10
    assert len(set().union(*(users(name) for name in TRAINING))) <= 3


def test_the_reader_of_sources_sees_all_kinds():
    library = """
from trl import GRPOTrainer as Base
class Above(Base):
    def _mine(self): ...
"""
    source = """
import os, ray, vllm.v1.engine
from trl.trainer.utils import pad
from cpt.library import Above
class Ours(Above):
    own = 1
    def _compute_loss(self, model, inputs):
        self._helper(), self._mine(), self._metrics, super()._compute_loss(model, inputs), os._exit(0)
        model._cpt_mark = model._secret, getattr(model, "_hidden"), ray._raylet, self.accelerator._models
    def _helper(self): ...
"""
    found = Sources({"cpt/library.py": ast.parse(library), "cpt/example.py": ast.parse(source)}).touches()
    assert {(touch.line, touch.word) for touch in found} == {
        (2, "vllm.v1.engine"),
        (3, "trl.trainer.utils.pad"),
        (5, "_compute_loss"),  # overridden
        (8, "_metrics"),
        (8, "_compute_loss"),
        (9, "_secret"),
        (9, "_hidden"),
        (9, "_raylet"),
        (9, "_models"),
    }


def test_a_class_before_two_of_the_libraries_uses_the_names_of_both():
    source = """
from transformers import Trainer
from trl import GRPOTrainer, RewardTrainer, SFTTrainer
class Mixin:
    def record(self): self._metrics, self._mine
    def _load_from_checkpoint(self): ...
class Ours(Mixin, SFTTrainer): ...
class Others(Mixin, GRPOTrainer): ...
class More(Mixin, RewardTrainer): ...
"""
    found = Sources({"cpt/example.py": ast.parse(source)})
    assert {(name, word, user) for _, name, word, user in found.inherited()} == {
        (name, word, user)
        for name, user in (("SFTTrainer", "Ours"), ("GRPOTrainer", "Others"), ("RewardTrainer", "More"))
        for word in ("_metrics", "_load_from_checkpoint")
    }
    assert unlisted(found) == ["trl.RewardTrainer._metrics of More"]
