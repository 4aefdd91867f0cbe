"""Where the time of an optimizer step goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

REST = "rest"
EVALUATE = "evaluate_during"
"""Evaluation between two steps, which belongs to neither."""


class Phases:
    """A stopwatch with named, nested phases: time inside a phase counts for the innermost one only."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._open: list[str] = []
        self._since = self._start = time.perf_counter()

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Count the block's time for `name`, except what phases inside it take."""
        self.begin(name)
        try:
            yield
        finally:
            self.end()

    def begin(self, name: str) -> None:
        """The phase is the innermost one until `end`."""
        self._switch()
        self._open.append(name)

    def end(self) -> None:
        """The innermost phase is over."""
        self._switch()
        self._open.pop()

    def take(self) -> dict[str, float]:
        """Seconds by phase since the last call, and what belongs to none as `rest`; starts over."""
        self._switch()
        seconds, total = self.seconds, self._since - self._start
        self.seconds, self._start = {}, self._since
        seconds.pop(REST, None)  # measured only to keep it out of the phase around it
        return seconds | {REST: max(0.0, total - sum(seconds.values()))}

    @property
    def innermost(self) -> str | None:
        """The phase that time counts for now."""
        return self._open[-1] if self._open else None

    def _switch(self) -> None:
        now = time.perf_counter()
        if self._open:
            name = self._open[-1]
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now
