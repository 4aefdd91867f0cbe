"""Wall time by phase, from events.jsonl; training is split by the times of its steps in metrics.jsonl."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime

from cpt.report.figure_style import EVALUATE, IDLE, OTHER_PHASES, REST, STEP_PHASES
from cpt.report.load import PHASE_SECONDS, STEP_SECONDS, ArmRun, RunData

SHARED = "shared by all arms"
STEP = "training steps"  # if the phases of a step are not timed
STEP_REST = "rest of step"
TRAINING_REST = "start-up, saving"


def running_seconds(run: RunData) -> float | None:
    """Time of all attempts at a run, without the pauses between them; None if none is noted.

    An attempt without an end (killed, or under way) counts up to its last finished phase.
    """
    attempts = run.manifest.get("attempts", [])
    begun = [_unix(attempt["started"]) for attempt in attempts]
    total = 0.0
    for attempt, start, following in zip(attempts, begun, [*begun[1:], math.inf], strict=True):
        phases = [event["start"] + event["seconds"] for event in run.events if start <= event["start"] < following]
        end = _unix(attempt["ended"]) if attempt.get("ended") else max(phases, default=start)
        total += end - start
    return total if attempts else None


def _unix(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def phase_seconds(run: RunData) -> dict[str, dict[str, float]]:
    """Seconds by phase, per arm and for what all arms share. Failed attempts count."""
    found: dict[str, dict[str, float]] = {**{arm.name: {} for arm in run.arms}, SHARED: {}}
    for event in run.events:
        phases = found.get(str(event.get("arm", "")), found[SHARED])
        _add(phases, str(event["phase"]), float(event["seconds"]))
    for arm in run.arms:
        found[arm.name] = _split_training(arm, found[arm.name])
    return {name: phases for name, phases in found.items() if phases}


def time_bars(run: RunData) -> tuple[list[tuple[str, dict[str, float]]], dict[str, str]]:
    """Labelled bars in the order of the arms, and the phases' colours in the order of stacking."""
    labels = {arm.name: arm.label for arm in run.arms}
    bars = [(labels.get(name, name), phases) for name, phases in phase_seconds(run).items()]
    return bars, _colours(phases for _, phases in bars)


def _split_training(arm: ArmRun, phases: Mapping[str, float]) -> dict[str, float]:
    split = {name: seconds for name, seconds in phases.items() if name != "train"}
    inside = 0.0
    for stage in arm.stages.values():
        for row in stage.metrics:
            timed = {m[1]: float(value) for key, value in row.items() if value and (m := PHASE_SECONDS.fullmatch(key))}
            for name, seconds in timed.items():
                _add(split, STEP_REST if name == "rest" else name, seconds)
            step = float(row.get(STEP_SECONDS) or 0.0)
            _add(split, STEP_REST if timed else STEP, max(0.0, step - sum(timed.values())))
            inside += max(step, sum(timed.values()))
    # A stage in training has steps but no event yet.
    _add(split, TRAINING_REST, max(0.0, phases.get("train", 0.0) - inside))
    return {name: seconds for name, seconds in split.items() if seconds > 0}


def _add(phases: dict[str, float], name: str, seconds: float) -> None:
    phases[name] = phases.get(name, 0.0) + seconds


def _colours(bars: Iterable[Mapping[str, float]]) -> dict[str, str]:
    """In the order of stacking: a step's phases, the rest of training, evaluation, everything else."""
    present = dict.fromkeys(name for phases in bars for name in phases)
    known = {**STEP_PHASES, STEP: STEP_PHASES["forward_backward"], STEP_REST: REST, TRAINING_REST: IDLE}
    known["evaluate"] = EVALUATE
    other = [name for name in present if name not in known]
    known |= {name: OTHER_PHASES[number % len(OTHER_PHASES)] for number, name in enumerate(other)}
    return {name: colour for name, colour in known.items() if name in present}
