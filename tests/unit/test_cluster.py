"""Starting Ray on a busy machine."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from cpt.cluster import cluster
from cpt.types import RunFailed

SLOW = Exception("The current node timed out during startup. This could happen because …")


def fake_ray(monkeypatch: pytest.MonkeyPatch, *outcomes: Exception | None) -> list[str]:
    """A ray whose init does these things, call after call; returns what was called."""
    calls: list[str] = []
    left = iter(outcomes)

    def init(**_: object) -> None:
        calls.append("init")
        outcome = next(left)
        if outcome is not None:
            raise outcome

    module = SimpleNamespace(init=init, shutdown=lambda: calls.append("shutdown"))
    monkeypatch.setitem(sys.modules, "ray", module)
    return calls


def test_a_start_that_took_too_long_is_tried_again(monkeypatch):
    calls = fake_ray(monkeypatch, SLOW, None)
    with cluster(None):
        assert calls == ["init", "shutdown", "init"]
    assert calls[-1] == "shutdown"


def test_three_slow_starts_are_one_clear_sentence(monkeypatch):
    calls = fake_ray(monkeypatch, SLOW, SLOW, SLOW)
    with pytest.raises(RunFailed, match="too busy"), cluster(None):
        pass
    assert calls.count("init") == 3


def test_another_error_is_not_swallowed(monkeypatch):
    calls = fake_ray(monkeypatch, ConnectionError("no cluster at this address"))
    with pytest.raises(ConnectionError), cluster("head:6379"):
        pass
    assert calls == ["init"]
