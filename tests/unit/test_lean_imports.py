"""Which packages a process does without that trains or loads models."""

from __future__ import annotations

import sys

import pytest

from cpt.models.lean import hideable, lean_imports


@pytest.mark.parametrize(
    ("loaded", "hidden"),
    [
        (set(), {"vllm", "sklearn", "scipy"}),
        ({"scipy"}, {"vllm", "sklearn"}),
        ({"transformers"}, {"vllm"}),
        ({"trl", "transformers"}, set()),
    ],
    ids=lambda names: "+".join(sorted(names)) or "nothing",
)
def test_a_package_is_hidden_only_from_those_that_cannot_have_seen_it(
    loaded: set[str], hidden: set[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert set(hideable(["transformers", "trl"], loaded)) == hidden


def test_only_what_the_packages_at_hand_would_import_is_hidden(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "scipy" else name)
    assert hideable(["transformers"], set()) == ["sklearn"]  # scipy is not installed, and vllm is trl's


def test_hidden_packages_are_back_afterwards(monkeypatch: pytest.MonkeyPatch):
    for name in ("trl", "colorsys"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr("cpt.models.lean.UNUSED", {"trl": ("colorsys",)})
    with lean_imports("trl"), pytest.raises(ImportError):
        import colorsys
    import colorsys

    assert colorsys.__name__ == "colorsys"
