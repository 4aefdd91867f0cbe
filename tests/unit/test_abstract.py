"""What a class leaves to those below it: without it they can't be made, and do nothing in silence."""

from __future__ import annotations

import ast
from importlib import import_module
from inspect import isabstract
from pathlib import Path

import pytest

from cpt.methods.plugin import Penalty
from cpt.methods.setting import Setting
from cpt.models.tuning.kind import Tuning

ROOT = Path(__file__).resolve().parents[2]


def leaving() -> dict[str, set[str]]:
    """`module:class` → its methods that are decorated as abstract."""
    found = {}
    for path in sorted((ROOT / "cpt").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                methods = (item for item in node.body if isinstance(item, ast.FunctionDef))
                own = {one.name for one in methods if "abstractmethod" in map(ast.unparse, one.decorator_list)}
                if own:
                    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                    found[f"{module}:{node.name}"] = own
    return found


@pytest.mark.parametrize(("where", "methods"), leaving().items(), ids=leaving())
def test_abstract_methods_count(where: str, methods: set[str]):
    """The decorator alone does nothing: it takes ABC, which pydantic's models have."""
    module, name = where.split(":")
    assert isabstract(getattr(import_module(module), name))


def test_a_penalty_without_a_value_is_not_made():
    class Nothing(Penalty):
        pass

    with pytest.raises(TypeError, match="abstract method value"):
        Nothing()


def test_a_setting_without_its_plugin_is_not_read():
    class Empty(Setting):
        pass

    with pytest.raises(TypeError, match="abstract method plugin"):
        Empty.model_validate({"type": "empty"})


def test_a_kind_of_tuning_without_its_methods_is_not_read():
    class Some(Tuning):
        def attach(self, model: object, freeze: object, kept: object) -> None: ...

    with pytest.raises(TypeError, match="abstract method trained_numbers"):
        Some.model_validate({"type": "some"})
