"""Whether everything that a run builds on is still what it wrote."""

from __future__ import annotations

from collections.abc import Sequence

from cpt.store.folder import StageDir, StageLike
from cpt.store.results import check_measured, check_stage_json, check_trained, counts
from cpt.store.run_store import RunStore


def check_results(store: RunStore, stages: Sequence[StageLike], bases: Sequence[tuple[int, str, str]]) -> None:
    """Look at every result of these stages and base evaluations before anything is built on it.

    Policies that nothing is left to do with are read only if this user's cache of digests does not know them.

    Args:
        stages: an arm's in their order.
        bases: seed, prompt and key.

    Raises:
        ValueError: a file is missing or not what the run wrote; it is named.
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
