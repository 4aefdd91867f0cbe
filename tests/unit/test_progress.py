"""What a run shows: plain lines, and the live table as text."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from folders import model_folder

from cpt.plan.make import make_plan
from cpt.plan.run_plan import RunPlan
from cpt.recipe import load_recipe
from cpt.run.progress import LiveProgress, PlainProgress, Progress, Row, duration, make_progress, thousands

RECIPE = """\
version: 1
name: demo
seeds: [0, 1]
model: MODEL
tasks: [count-colour, which-row]
arms:
  sft: {method: {type: sft, max_steps: 20}}
  grpo: {method: {type: grpo, max_steps: 20}}
"""


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """Seconds that pass when a test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def plan(tmp_path: Path) -> RunPlan:
    path = tmp_path / "demo.yaml"
    path.write_text(RECIPE.replace("MODEL", str(model_folder(tmp_path / "model"))))
    return make_plan(load_recipe(path))


def half_a_run(progress: Progress, clock: Clock, plan: RunPlan) -> None:
    """The base model, the first stage of SFT, and half of the second one, resumed at step 4."""
    progress.start(plan)
    progress.stage("base", 0, 0, "all tasks", "evaluate")
    progress.stage("sft", 0, 1, "count-colour", "train", 20)
    for step in range(1, 21):
        clock.now += 2
        progress.step("sft", 0, 1, step, {"loss": 1 / step, "tokens_per_s": 3210.0})
    progress.stage("sft", 0, 1, "count-colour", "evaluate")
    progress.stage("sft", 0, 1, "count-colour", "done")
    progress.stage("sft", 0, 2, "which-row", "train", 20)
    for step in range(5, 11):
        clock.now += 3
        progress.step("sft", 0, 2, step, {"loss": 0.25, "reward": 0.5, "tokens_per_s": None, "phase": "train"})


def test_plain_lines(plan):
    stream, clock = io.StringIO(), Clock()
    progress = PlainProgress(stream, clock)
    half_a_run(progress, clock, plan)
    progress.message("an engine died; another one took over")
    progress.close()
    progress.close()
    assert stream.getvalue().splitlines() == [
        "[0:00] demo: 2 arms, 2 seeds, 8 stages",
        "[0:00] base seed 0 all tasks: evaluate",
        "[0:00] sft seed 0 stage 1/2 count-colour: train, 20 steps",
        "[0:20] sft seed 0 stage 1/2 count-colour: step 10/20, loss 0.100, 3.2k tokens/s, 0:20 left",
        "[0:40] sft seed 0 stage 1/2 count-colour: step 20/20, loss 0.050, 3.2k tokens/s",
        "[0:40] sft seed 0 stage 1/2 count-colour: evaluate",
        "[0:40] sft seed 0 stage 1/2 count-colour: done (1 of 8 stages, 0:40 so far)",
        "[0:40] sft seed 0 stage 2/2 which-row: train, 20 steps",
        "[0:58] sft seed 0 stage 2/2 which-row: step 10/20, reward 0.500, 0:30 left",
        "[0:58] an engine died; another one took over",
        "[0:58] ended: 1 of 8 stages, 0:58 so far",
    ]
    assert stream.getvalue().endswith("\n")
    assert "\x1b" not in stream.getvalue()


def test_the_live_table(plan, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("LINES", "40")
    from rich.console import Console

    clock = Clock()
    progress = LiveProgress(Terminal(), clock)
    half_a_run(progress, clock, plan)
    out = io.StringIO()
    Console(file=out, width=140).print(progress.table())
    progress.close()
    progress.close()
    rows = [line.strip("│").split("│") for line in out.getvalue().splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["base", "0", "", "all tasks", "evaluate", "", "", "", ""],
        ["sft", "0", "2/2", "which-row", "train", "10/20", "reward 0.500", "", "0:30"],
        ["sft", "1", "", "", "waiting", "", "", "", ""],
        ["grpo", "0", "", "", "waiting", "", "", "", ""],
        ["grpo", "1", "", "", "waiting", "", "", "", ""],
    ]
    assert "1 of 8 stages, 0:58 so far" in out.getvalue()


def test_lines_that_can_not_be_written_end_nothing(plan):
    with open("/dev/full", "w", encoding="ascii") as full:
        half_a_run(make_progress(full), Clock(), plan)


def test_time_left_knows_nothing_of_start_up():
    row = Row("sft", 0)
    row.begin(1, "count-colour", "train", 20)
    assert row.seconds_left(15) is None
    row.advance(1, {}, 30)
    assert row.seconds_left(31) is None
    row.advance(2, {}, 32)
    assert [row.seconds_left(now) for now in (32, 33, 34, 40)] == [36, 35, 34, 34]  # the third step takes its time
    row.advance(3, {}, 35)
    assert row.seconds_left(35) == 17 * 2.5
    # The training process died and went on from a checkpoint.
    row.advance(2, {}, 80)
    assert row.seconds_left(80) is None
    row.advance(3, {}, 81)
    assert row.seconds_left(81) == 17
    row.begin(2, "which-row", "train", 20)
    assert row.seconds_left(90) is None


def test_one_is_not_plural(tmp_path):
    path = tmp_path / "demo.yaml"
    text = RECIPE.replace("seeds: [0, 1]", "seeds: [0]").replace("tasks: [count-colour, which-row]", "tasks: [parity]")
    path.write_text(text.replace("MODEL", str(model_folder(tmp_path / "model"))))
    stream = io.StringIO()
    PlainProgress(stream, Clock()).start(make_plan(load_recipe(path), ["sft"]))
    assert stream.getvalue() == "[0:00] demo: 1 arm, 1 seed, 1 stage\n"


def test_a_low_terminal_shows_the_arm_at_work(plan, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("LINES", "11")  # room for three rows
    progress = LiveProgress(Terminal(), Clock())
    progress.start(plan)
    progress.stage("grpo", 1, 1, "count-colour", "train", 20)
    table = progress.table()
    progress.close()
    assert table.row_count == 3
    assert list(table.columns[4].cells)[-1] == "train"


def test_a_terminal_gets_the_table_and_a_file_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(make_progress(Terminal()), LiveProgress)
    assert isinstance(make_progress(io.StringIO()), PlainProgress)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(make_progress(Terminal()), PlainProgress)


@pytest.mark.parametrize(("seconds", "text"), [(7, "0:07"), (59.6, "1:00"), (754, "12:34"), (3723, "1:02:03")])
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("number", "text"), [(850, "850"), (3210, "3.2k")])
def test_thousands(number, text):
    assert thousands(number) == text


def test_a_policy_that_is_evaluated_between_two_steps(plan):
    stream, clock = io.StringIO(), Clock()
    plain, live = PlainProgress(stream, clock), LiveProgress(Terminal(), clock)
    for progress in (plain, live):
        progress.start(plan)
        progress.stage("sft", 0, 1, "count-colour", "train", 20)
        progress.step("sft", 0, 1, 5, {"loss": 0.5})
        progress.evaluating("sft", 0, 1)
    assert stream.getvalue().splitlines()[-1] == "[0:00] sft seed 0 stage 1/2 count-colour: evaluate after step 5/20"
    assert phases(live)[0] == "evaluate"
    live.step("sft", 0, 1, 6, {"loss": 0.5})
    assert phases(live)[0] == "train"
    live.close()


def phases(live: LiveProgress) -> list[str]:
    """The column of the table."""
    return [str(cell) for cell in live.table().columns[4].cells]
