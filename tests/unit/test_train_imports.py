"""Which packages a training process does without."""

from __future__ import annotations

import pytest

from cpt.train.worker import hideable


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
    assert set(hideable(loaded)) == hidden


def test_what_is_not_installed_need_not_be_hidden(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "vllm" else name)
    assert set(hideable(set())) == {"sklearn", "scipy"}
