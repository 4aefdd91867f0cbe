"""Where the time of an optimizer step goes, for any of transformers' and TRL's trainers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

REST = "rest"


class Phases:
    """A stopwatch with named, nested phases: time inside a phase counts for the innermost one only."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._open: list[str] = []
        self._since = self._start = time.perf_counter()

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Count the block's time for `name`, except what phases inside it take."""
        self._switch()
        self._open.append(name)
        try:
            yield
        finally:
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


class TimedTrainer:
    """Mixin for a transformers Trainer: `phases` measures forward and backward passes, and the optimizer.

    Put it before the trainer's class. `self.phases.take()` after every step gives that step's seconds.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.phases = Phases()
        super().__init__(*args, **kwargs)
        self.add_callback(_optimizer_callback(self.phases))  # type: ignore[attr-defined]

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """See `Trainer.training_step`; preparing the batch inside it counts as `rest`."""
        with self.phases.measure("forward_backward"):
            return super().training_step(*args, **kwargs)  # type: ignore[misc]

    def _prepare_inputs(self, *args: Any, **kwargs: Any) -> Any:
        with self.phases.measure(REST):
            return super()._prepare_inputs(*args, **kwargs)  # type: ignore[misc]

    def _clip_grad_norm(self, *args: Any, **kwargs: Any) -> Any:
        with self.phases.measure("optimizer"):
            return super()._clip_grad_norm(*args, **kwargs)  # type: ignore[misc]


def _optimizer_callback(phases: Phases) -> Any:
    from contextlib import ExitStack

    from transformers import TrainerCallback

    class OptimizerTime(TrainerCallback):
        """The optimizer's step lies between two callbacks."""

        def __init__(self) -> None:
            self.stack = ExitStack()

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            """Loading and resuming belong to no step."""
            phases.take()

        def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
            """Gradients are ready."""
            self.stack.enter_context(phases.measure("optimizer"))

        def on_optimizer_step(self, *_: Any, **__: Any) -> None:
            """Weights are new."""
            self.stack.close()

    return OptimizerTime()
