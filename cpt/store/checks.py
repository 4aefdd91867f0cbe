"""Checks that the results a run builds on are still what it wrote."""

from __future__ import annotations

from collections.abc import Sequence

from cpt.store.folder import StageDir, StageLike
from cpt.store.results import check_measured, check_stage_json, check_trained, counts
from cpt.store.run_store import RunStore


def check_results(store: RunStore, stages: Sequence[StageLike], bases: Sequence[tuple[int, str, str]]) -> None:
    """Check every result of these stages and base evaluations before the run continues.

    A policy that is not needed any more is read only if its digest is not in this user's cache.

    Args:
        stages: those of one arm, in order.
        bases: seed, prompt and key of each.

    Raises:
        ValueError: a file, which is named, is missing or not what the run wrote.
    """
    last: StageLike | None = None
    for stage in stages:
        where = store.stage(stage)
        if store.is_trained(stage):
            check_stage_json(where, stage.as_dict())
            check_trained(where, cached=store.is_done(stage))
        elif last is not None and (last.arm, last.seed) == (stage.arm, stage.seed) and store.is_trained(last):
            check_trained(store.stage(last))  # the stage starts from it
        if store.is_trained(stage):
            _check_evaluated(where, stage.key)
        last = stage
    for seed, prompt, key in bases:
        _check_evaluated(store.base_dir(seed, prompt), key)


def _check_evaluated(where: StageDir, key: str) -> None:
    """What is not there, or of another key, is measured again."""
    for marker in where.markers():
        if counts(where, marker, key):
            check_measured(where, marker)
