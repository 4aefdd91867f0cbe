"""Where the wall time went: phases of events.jsonl, training split by what metrics.jsonl times at each step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cpt.report.load import TIME_PREFIX, ArmRun, RunData
from cpt.report.style import OTHER_PHASES, PHASES, REST

SHARED = "shared by all arms"
TRAINING_REST = "rest of training"


def phase_seconds(run: RunData) -> dict[str, dict[str, float]]:
    """Seconds by phase, per arm name and for what no single arm caused; failed attempts count, they took time too."""
    found: dict[str, dict[str, float]] = {SHARED: {}, **{arm.name: {} for arm in run.arms}}
    for event in run.events:
        phases = found.get(str(event.get("arm", "")), found[SHARED])
        _add(phases, str(event["phase"]), float(event["seconds"]))
    for arm in run.arms:
        found[arm.name] = _split_training(arm, found[arm.name])
    return {name: phases for name, phases in found.items() if phases}


def time_bars(run: RunData) -> tuple[list[tuple[str, dict[str, float]]], dict[str, str]]:
    """Bars with their labels, in the arms' order, and the colours of the phases in the order of stacking."""
    labels = {arm.name: arm.label for arm in run.arms} | {SHARED: SHARED}
    found = phase_seconds(run)
    bars = [(label, found[name]) for name, label in labels.items() if name in found]
    return bars, _colours(phases for _, phases in bars)


def _split_training(arm: ArmRun, phases: Mapping[str, float]) -> dict[str, float]:
    inside: dict[str, float] = {}
    for stage in arm.stages.values():
        for row in stage.metrics:
            for name, seconds in _step_phases(row).items():
                _add(inside, name, seconds)
    whole = phases.get("train", 0.0)
    split = {name: seconds for name, seconds in phases.items() if name != "train"}
    for name, seconds in inside.items():
        _add(split, name, seconds)
    # Start-up, data and checkpoints. A stage under way has steps but no event yet.
    rest = whole - sum(inside.values())
    if rest > 0:
        split[TRAINING_REST] = rest
    return split


def _step_phases(row: Mapping[str, Any]) -> dict[str, float]:
    return {
        name.removeprefix(TIME_PREFIX): float(value)
        for name, value in row.items()
        if name.startswith(TIME_PREFIX) and value is not None
    }


def _add(phases: dict[str, float], name: str, seconds: float) -> None:
    phases[name] = phases.get(name, 0.0) + seconds


def _colours(bars: Iterable[Mapping[str, float]]) -> dict[str, str]:
    present = dict.fromkeys(name for phases in bars for name in phases)
    colours = {**PHASES, TRAINING_REST: REST}
    other = [name for name in present if name not in colours]
    colours |= {name: OTHER_PHASES[number % len(OTHER_PHASES)] for number, name in enumerate(other)}
    inside = [name for name in PHASES if name != "evaluate"]
    order = [name for name in (*inside, TRAINING_REST, "evaluate", *other) if name in present]
    return {name: colours[name] for name in order}
