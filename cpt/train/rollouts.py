"""rollouts.jsonl: what a policy-gradient stage sampled, kept for an arm that imitates it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cpt.common.files import append_jsonl, read_jsonl
from cpt.methods.targets import Candidate
from cpt.store.results import check_trained, read_marker
from cpt.store.schemas import Trained
from cpt.train.accuracy import strictly_right
from cpt.types import Completion, PromptStyle, Sample

if TYPE_CHECKING:
    from cpt.store.folder import StageDir


class RolloutLog:
    """Appends every step's rollouts. A resumed stage drops those of steps that it makes again (`cpt.train.log`)."""

    def __init__(self, path: Path, prompt: PromptStyle) -> None:
        self.path, self.prompt = path, prompt

    def write(
        self, step: int, samples: Sequence[Sample], completions: Sequence[Completion], rewards: Sequence[float]
    ) -> None:
        """One line per completion: `right` is strict scoring's verdict, whatever the reward was.

        Args:
            step: the first optimizer step that learns from them.
            rewards: null in the file where there was none (NaN).
        """
        for sample, one, reward in zip(samples, completions, rewards, strict=True):
            row = {
                "step": step,
                "sample_id": sample.id,
                "completion": one.text,
                "finish_reason": one.finish_reason,
                "reward": reward,
                "right": strictly_right(sample, one.text, self.prompt),
            }
            append_jsonl(self.path, row)


def saved_rollouts(out: StageDir, key: str, arm: str) -> dict[str, list[Candidate]]:
    """The completions of a finished stage by sample, in the order they were sampled.

    Args:
        out: the stage's folder.
        key: the stage's, as planned.
        arm: its name, for messages.

    Raises:
        ValueError: the stage is not finished, of another key, or left no rollouts.
    """
    trained = read_marker(out.trained, Trained) if out.trained.exists() else {}
    if trained.get("key") != key or not out.rollouts.exists():
        raise ValueError(f"{out.rollouts}: the rollouts of arm {arm} are not there; run {arm} before this arm")
    check_trained(out, only={out.rollouts.name})
    found: dict[str, list[Candidate]] = {}
    for row in read_jsonl(out.rollouts):
        candidate = Candidate(row["completion"], row["right"], row["finish_reason"] == "stop")
        found.setdefault(row["sample_id"], []).append(candidate)
    return found
