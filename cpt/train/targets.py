"""The rows of an SFT stage that imitates sampled completions: the policy's own, or those of another arm's stage.

The rows are settled one pass over the samples after the other, at the first row of each, and not before: what a pass
imitates may have to be sampled from the weights that the steps before it have left. What was sampled is on disk before
it is imitated, so that a resumed stage imitates the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from cpt.methods.targets import SavedRollouts, cycled
from cpt.train.answers import Answers, OwnAnswers, SavedAnswers, sampled_by
from cpt.train.data import StageData
from cpt.train.rollouts import saved_rollouts
from cpt.types import Sample

if TYPE_CHECKING:
    from cpt.plan.stages import StagePlan
    from cpt.rollout.pool import RolloutPool
    from cpt.store.folder import StageDir

Row = dict[str, Any]
AnswerSource = Callable[[int, Sequence[Sample], bool], list[Answers]]
"""`source(epoch, samples, new)`: the answers to every sample; `new` unless steps were made in this epoch already."""


class TargetRows:
    """What each row of the stage is, by its number.

    Args:
        gold: of every sample in `data`, the row with its gold answer.
        epoch: rows that share one sampling.
        source: of the completions.
    """

    def __init__(
        self, stage: StagePlan, data: StageData, gold: Sequence[Row], epoch: int, source: AnswerSource
    ) -> None:
        self.stage, self.data, self.gold, self.epoch, self.source = stage, data, gold, epoch, source
        self.fresh: dict[str, float] = {}
        self._settled = -1
        self._rows: list[Row] = []

    def __getitem__(self, number: int) -> Row:
        """Prompt, completion and images of a row.

        Raises:
            ValueError: no prompt of the row's epoch has a completion that may be imitated.
        """
        epoch, place = divmod(number, self.epoch)
        if epoch != self._settled:
            self._rows = self._settle(epoch, new=place == 0)
            self._settled = epoch
        return self._rows[place]

    def take_metrics(self) -> dict[str, float]:
        """Of an epoch that has begun since the last call: share of prompts with a target, of right completions."""
        fresh, self.fresh = self.fresh, {}
        return fresh

    def _settle(self, epoch: int, *, new: bool) -> list[Row]:
        setting = sampled_by(self.stage)
        order = self.data.order[epoch * self.epoch : (epoch + 1) * self.epoch]
        positions = sorted(set(order))
        answers = self.source(epoch, [self.data.samples[position] for position in positions], new)
        texts = {
            position: found.candidates[found.chosen].text
            for position, found in zip(positions, answers, strict=True)
            if found.chosen is not None
        }
        if new:
            every = [one.right for found in answers for one in found.candidates]
            self.fresh = {"targets/kept": len(texts) / len(positions), "targets/right": sum(every) / max(1, len(every))}
        if setting.fallback == "drop":
            order = cycled(order, texts)
            if not order:
                raise ValueError(
                    f"{self.stage.label}: none of {len(positions)} prompts has a completion to imitate (whole, and "
                    f"{'right' if setting.keep == 'right' else 'any'}); set method.data.fallback: gold"
                )
        return [self.gold[p] | ({"completion": said(texts[p])} if p in texts else {}) for p in order]


def said(text: str) -> list[Row]:
    """The assistant's turn."""
    return [{"role": "assistant", "content": text}]


class NumberedRows(Sequence[Row]):
    """Rows in the order of the stage with gold answers, and their numbers, by which `TargetRows` knows them."""

    def __init__(self, gold: Sequence[Row], order: Sequence[int]) -> None:
        self.gold, self.order = gold, order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, number: Any) -> Any:
        return self.gold[self.order[number]] | {"number": number}


def target_rows(
    stage: StagePlan,
    own: Sequence[Sample],
    data: StageData,
    gold: Sequence[Row],
    *,
    out: StageDir,
    pool: RolloutPool | None,
    trainer: Any,
) -> TargetRows:
    """The rows of a stage whose `method.data` is not gold.

    Args:
        own, data, gold: the stage's samples, what `stage_data` makes of them, and the rows of these with gold answers.
        out: the stage's folder.
        trainer: of the policy that samples.

    Raises:
        ValueError: the rollouts that it imitates are not there.
    """
    setting = sampled_by(stage)
    if isinstance(setting, SavedRollouts):
        assert stage.rollouts_key is not None
        rollouts = saved_rollouts(out.of_arm(setting.arm), stage.rollouts_key, setting.arm)
        return TargetRows(stage, data, gold, len(data.order), SavedAnswers(stage, rollouts))
    assert pool is not None
    answers = OwnAnswers(stage, out.generated, pool, trainer)
    return TargetRows(stage, data, gold, len(own) if setting.refresh == "epoch" else len(data.order), answers)
