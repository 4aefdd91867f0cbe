"""The progress of a run: a live table on a terminal, plain lines elsewhere.

The stage loop calls `start`, then for each stage `stage` once per phase and `step` once per optimizer step, and last
`close`; `message` at any time. Of a step's values, `reward`, `loss` and `tokens_per_s` are shown.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TextIO, cast

from cpt.common.console import counted
from cpt.common.terminal import Output

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from cpt.plan.run_plan import RunPlan

DONE = "done"
Clock = Callable[[], float]


class Progress(Protocol):
    """What the stage loop reports to. Seconds come from a monotonic clock; no method raises."""

    def start(self, plan: RunPlan) -> None:
        """The run begins."""

    def stage(self, arm: str, seed: int, index: int, task: str, phase: str, total_steps: int = 0) -> None:
        """A stage enters a phase (`train`, `evaluate`, `drift`, …, `done`); index 0: the base model."""

    def step(self, arm: str, seed: int, index: int, step: int, values: Mapping[str, Any]) -> None:
        """One optimizer step (1-based) is done."""

    def evaluating(self, arm: str, seed: int, index: int) -> None:
        """Between the last step and the next one the policy is evaluated."""

    def message(self, text: str) -> None:
        """Show a line that stays on the screen."""

    def close(self) -> None:
        """The run has ended. May be called twice."""


@dataclass
class Row:
    """The state of one arm and seed."""

    arm: str
    seed: int
    index: int = 0
    task: str = ""
    phase: str = "waiting"
    step: int = 0
    total: int = 0
    values: Mapping[str, Any] = field(default_factory=dict)
    first: tuple[int, float] = (0, 0.0)  # the first step seen, and when it was done
    done_at: float = 0.0
    between: str = ""  # what happens before the next step

    def begin(self, index: int, task: str, phase: str, total: int) -> None:
        """Enter a phase."""
        self.index, self.task, self.phase, self.total = index, task, phase, total
        self.step, self.values, self.between = 0, {}, ""

    def advance(self, step: int, values: Mapping[str, Any], now: float) -> None:
        """Finish a step. Speed is measured from the first step seen, without start-up.

        After a restart from a checkpoint the measurement starts again.
        """
        if self.step == 0 or step <= self.step:
            self.first = (step, now)
        self.step, self.values, self.done_at, self.between = step, values, now, ""

    def seconds_left(self, now: float) -> float | None:
        """Estimated time to the last step of the phase; None before its second step."""
        made = self.step - self.first[0]
        if not self.total or self.step == 0 or made == 0:
            return None
        pace = (self.done_at - self.first[1]) / made
        return max((self.total - self.step) * pace - min(now - self.done_at, pace), 0.0)

    def steps(self) -> str:
        """`12/60`; empty outside of training."""
        return f"{self.step}/{self.total}" if self.total else ""

    def score(self) -> str:
        """The reward if there is one, else the loss."""
        name = next((name for name in ("reward", "loss") if self._has(name)), None)
        return f"{name} {self.values[name]:.3f}" if name else ""

    def _has(self, name: str) -> bool:
        return isinstance(self.values.get(name), int | float)

    def speed(self) -> str:
        """Tokens per second; empty where unknown."""
        return thousands(self.values["tokens_per_s"]) if self._has("tokens_per_s") else ""


class Board:
    """The state that both displays show: one row per arm and seed, in the order they run."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.began = clock()
        self.rows: dict[tuple[str, int], Row] = {}
        self.stages = 0
        self.finished: set[tuple[str, int, int]] = set()
        self.current: Row | None = None
        self.stages_per_arm = 0

    def start(self, plan: RunPlan) -> None:
        """One row per arm and seed."""
        self.began = self.clock()
        self.rows = {(arm, seed): Row(arm, seed) for arm, seed in plan.arms}
        self.stages = len(plan.stages)
        self.stages_per_arm = len(plan.recipe.tasks)

    def stage(self, arm: str, seed: int, index: int, task: str, phase: str, total_steps: int) -> Row:
        """Enter a phase. The base model's row is made here."""
        row = self.rows.get((arm, seed))
        if row is None:
            row = Row(arm, seed)
            self.rows = {(arm, seed): row, **self.rows}
        row.begin(index, task, phase, total_steps)
        if phase == DONE and index > 0:
            self.finished.add((arm, seed, index))
        self.current = row
        return row

    def place(self, row: Row) -> str:
        """`1/3` within the arm; empty for the base model."""
        return f"{row.index}/{self.stages_per_arm}" if row.index else ""

    def summary(self) -> str:
        """`4 of 18 stages, 2:10 so far`."""
        return f"{len(self.finished)} of {counted(self.stages, 'stage')}, {duration(self.clock() - self.began)} so far"


class PlainProgress:
    """One line per phase, and one about every tenth step. No escape codes; every line ends with a newline."""

    def __init__(self, stream: TextIO | None = None, clock: Clock = time.monotonic) -> None:
        self._stream = stream or sys.stdout
        self._board = Board(clock)
        self._closed = False

    def start(self, plan: RunPlan) -> None:
        """See `Progress`."""
        self._board.start(plan)
        arms = {arm for arm, _ in plan.arms}
        numbers = ((len(arms), "arm"), (len(plan.recipe.seeds), "seed"), (len(plan.stages), "stage"))
        self.message(f"{plan.recipe.name}: {', '.join(counted(number, noun) for number, noun in numbers)}")

    def stage(self, arm: str, seed: int, index: int, task: str, phase: str, total_steps: int = 0) -> None:
        """See `Progress`."""
        row = self._board.stage(arm, seed, index, task, phase, total_steps)
        steps = f", {total_steps} steps" if total_steps else ""
        done = f" ({self._board.summary()})" if phase == DONE else ""
        self.message(f"{self._label(row)}: {phase}{steps}{done}")

    def evaluating(self, arm: str, seed: int, index: int) -> None:
        """See `Progress`."""
        row = self._board.rows[arm, seed]
        self.message(f"{self._label(row)}: evaluate after step {row.steps()}")

    def step(self, arm: str, seed: int, index: int, step: int, values: Mapping[str, Any]) -> None:
        """See `Progress`."""
        row = self._board.rows[arm, seed]
        row.advance(step, values, self._board.clock())
        if step % max(10, row.total // 10) and step != row.total:
            return
        left = row.seconds_left(self._board.clock())
        speed = f"{row.speed()} tokens/s" if row.speed() else ""
        shown = [f"step {row.steps()}", row.score(), speed, f"{duration(left)} left" if left else ""]
        self.message(f"{self._label(row)}: {', '.join(text for text in shown if text)}")

    def message(self, text: str) -> None:
        """See `Progress`."""
        elapsed = duration(self._board.clock() - self._board.began)
        print(f"[{elapsed}] {text}", file=self._stream, flush=True)

    def close(self) -> None:
        """See `Progress`."""
        if not self._closed and self._board.stages:
            self.message(f"ended: {self._board.summary()}")
        self._closed = True

    def _label(self, row: Row) -> str:
        place = f"stage {self._board.place(row)} " if row.index else ""
        return f"{row.arm} seed {row.seed} {place}{row.task}".rstrip()


class LiveProgress:
    """A table that is redrawn four times a second, one row per arm and seed."""

    def __init__(self, stream: TextIO | None = None, clock: Clock = time.monotonic) -> None:
        from rich.console import Console

        self._console = Console(file=stream)
        self._board = Board(clock)
        self._live: Live | None = None

    def start(self, plan: RunPlan) -> None:
        """See `Progress`."""
        from rich.live import Live

        self._board.start(plan)
        self._live = Live(get_renderable=self.table, console=self._console, refresh_per_second=4)
        self._live.start()

    def stage(self, arm: str, seed: int, index: int, task: str, phase: str, total_steps: int = 0) -> None:
        """See `Progress`."""
        self._board.stage(arm, seed, index, task, phase, total_steps)

    def step(self, arm: str, seed: int, index: int, step: int, values: Mapping[str, Any]) -> None:
        """See `Progress`."""
        self._board.rows[arm, seed].advance(step, values, self._board.clock())

    def evaluating(self, arm: str, seed: int, index: int) -> None:
        """See `Progress`."""
        self._board.rows[arm, seed].between = "evaluate"

    def message(self, text: str) -> None:
        """See `Progress`. Stands above the table."""
        self._console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """See `Progress`."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def table(self) -> Table:
        """The current table: as many rows as the terminal holds, including the current one."""
        from rich.table import Table

        table = Table(caption=self._board.summary(), caption_justify="left")
        for title in ("arm", "seed", "stage", "task", "phase", "step", "reward or loss", "tokens/s", "left"):
            right = title in ("seed", "stage", "step", "reward or loss", "tokens/s", "left")
            table.add_column(title, justify="right" if right else "left", no_wrap=True)
        for row in self._visible():
            left = row.seconds_left(self._board.clock())
            cells = [
                row.arm,
                str(row.seed),
                self._board.place(row),
                row.task,
                row.between or row.phase,
                row.steps(),
                row.score(),
                row.speed(),
            ]
            style = "bold" if row is self._board.current else "dim" if row.phase == "waiting" else ""
            table.add_row(*cells, "" if left is None else duration(left), style=style)
        return table

    def _visible(self) -> list[Row]:
        rows = list(self._board.rows.values())
        room = max(self._console.height - 8, 3)
        at = rows.index(self._board.current) if self._board.current else 0
        first = min(max(at - room // 2, 0), max(len(rows) - room, 0))
        return rows[first : first + room]


def make_progress(stream: TextIO | None = None) -> Progress:
    """The live table if `stream` (default: standard output) is a terminal that can draw it, else plain lines.

    A stream that can't be written does not end the run: see `cpt.common.terminal.Output`.
    """
    given = stream or sys.stdout
    target = cast(TextIO, given if isinstance(given, Output) else Output(given))
    return LiveProgress(target) if target.isatty() and os.environ.get("TERM") != "dumb" else PlainProgress(target)


def duration(seconds: float) -> str:
    """`0:07`, `12:34`, `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def thousands(number: float) -> str:
    """`850`, `3.2k`."""
    return f"{number / 1000:.1f}k" if number >= 1000 else f"{number:.0f}"
