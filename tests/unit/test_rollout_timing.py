"""The stopwatch of a step: nested phases, the rest, a fresh start after every look."""

from __future__ import annotations

import pytest

from cpt.rollout import timing


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    class Clock:
        now = 100.0

        def wait(self, seconds: float) -> None:
            self.now += seconds

    ticking = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: ticking.now)
    return ticking


def test_time_counts_for_the_innermost_phase(clock):
    phases = timing.Phases()
    clock.wait(1)
    with phases.measure("outer"):
        clock.wait(2)
        with phases.measure("inner"):
            assert phases.innermost == "inner"
            clock.wait(4)
        clock.wait(8)
    with phases.measure("inner"):
        clock.wait(16)
    clock.wait(32)
    assert phases.take() == {"outer": 10.0, "inner": 20.0, "rest": 33.0}


def test_a_look_starts_over_even_inside_a_phase(clock):
    phases = timing.Phases()
    with phases.measure("push"):
        clock.wait(1)
        assert phases.take() == {"push": 1.0, "rest": 0.0}
        clock.wait(2)
    assert phases.take() == {"push": 2.0, "rest": 0.0}
    assert phases.take() == {"rest": 0.0}


def test_a_phase_named_rest_is_the_rest(clock):
    phases = timing.Phases()
    with phases.measure("rest"):
        clock.wait(1)
        with phases.measure("rollout"):
            clock.wait(2)
    clock.wait(4)
    assert phases.take() == {"rollout": 2.0, "rest": 5.0}


def test_an_error_closes_its_phases(clock):
    phases = timing.Phases()
    with pytest.raises(KeyError), phases.measure("a"), phases.measure("b"):
        raise KeyError
    assert phases.innermost is None
