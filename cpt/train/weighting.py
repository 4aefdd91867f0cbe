"""Objectives that are weighed against each other while a stage trains: RECAP's weights, or ones that stay.

An objective is a task among those that a stage trains on and, for reinforcement learning, a component of its reward.
The mathematics is `cpt.methods.recap`; here it meets the trainers: what each step measures, what a weight acts on, what
is logged, and how a resumed stage comes by its weights again (from its own metrics).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import send_to_device

from cpt.methods.memory import without_dropout
from cpt.methods.recap import RecapReplay, Reweighting
from cpt.methods.replay import Static
from cpt.recipe.arms import components_of
from cpt.train.batch import Parts
from cpt.train.output_layer import label_scores
from cpt.train.reward import rewards_of

if TYPE_CHECKING:
    from cpt.plan.stages import StagePlan

PREFIX = "objective/"


class Objectives:
    """The weights of one stage, and the values that move them.

    Attributes:
        names: `task` for SFT, `task/component` for reinforcement learning.
    """

    def __init__(self, stage: StagePlan) -> None:
        assert isinstance(stage.replay, RecapReplay | Static)
        self.replay, self.rollouts = stage.replay, stage.method.needs_rollouts
        sources = list(dict.fromkeys([stage.task, *(source.task for source in stage.sources)]))
        if self.rollouts:
            supervised = sources[1:] if stage.replay.loss == "supervised" else []
            rewarded = [name for name in sources if name not in supervised]
            self.names = [f"{name}/{part}" for name in rewarded for part in components(stage, name)] + supervised
        else:
            self.names = supervised = sources
        self.supervised = frozenset(supervised)
        self._moving: Reweighting | None = None
        if isinstance(stage.replay, RecapReplay):
            self._moving = Reweighting(stage.replay, self.names, supervised, stage.steps)
        self._metrics: dict[str, float] = {}

    @property
    def on_rewards(self) -> bool:
        """Whether weights act on rewards, before these become advantages."""
        return not isinstance(self.replay, RecapReplay) or self.replay.weigh == "rewards"

    def weight(self, name: str) -> float:
        """λ of an objective at this moment."""
        if self._moving is not None:
            return self._moving.weights[name]
        assert isinstance(self.replay, Static)
        return self.replay.weight(name)

    def reward(self, completion: Parts) -> float:
        """Σ λ · component, in place of the reward's own sum, at this moment's weights; NaN for a failed reward.

        It may exceed 1: the weights of K objectives add up to K.
        """
        task, parts = completion
        return sum(self.weight(f"{task}/{name}") * part for name, part in parts.items()) if parts else math.nan

    def observe(self, values: Mapping[str, float], step: int, *, supervised: bool) -> None:
        """Tell of a step's values, by objective, before they are weighed.

        What is logged of it is of the objectives of these values' kind alone, with the weights that act on them: where
        rollouts and a side loss are weighed together, each moves all weights before it uses them.

        Args:
            values: mean reward of a component, or token cross-entropy in nats.
            step: optimizer steps done before this one.
            supervised: the values are losses.
        """
        own = [name for name in self.names if (name in self.supervised) is supervised]
        rows = {f"{name}/value": value for name, value in values.items()}
        if self._moving is not None:
            self._moving.observe(values, step, supervised_step=supervised)
            for name in own:
                signals = self._moving.signals[name]
                rows |= {f"{name}/convergence": signals.convergence, f"{name}/instability": signals.instability}
        rows |= {f"{name}/weight": self.weight(name) for name in own}
        self._metrics |= {PREFIX + name: value for name, value in rows.items()}

    def take_metrics(self) -> dict[str, float]:
        """What has been observed since the last time."""
        found, self._metrics = self._metrics, {}
        return found

    def restore(self, metrics: Iterable[Mapping[str, Any]]) -> None:
        """Come by the weights of a stage that goes on, from the steps that it has logged."""
        for row in metrics:
            for supervised in (False, True):
                values = {
                    name: row[key]
                    for name in self.names
                    if (key := f"{PREFIX}{name}/value") in row and (name in self.supervised) is supervised
                }
                if values:
                    self.observe(values, row["step"] - 1, supervised=supervised)
        self.take_metrics()  # they are logged already


def objectives_of(stage: StagePlan) -> Objectives | None:
    """The stage's objectives, if they are weighed."""
    return Objectives(stage) if isinstance(stage.replay, RecapReplay | Static) else None


def components(stage: StagePlan, task: str) -> list[str]:
    """Names of the components that a task's reward has in this stage."""
    return list(components_of(rewards_of(stage)[task], task, stage.prompt))


def means(parts: Sequence[Parts]) -> dict[str, float]:
    """Mean of every component of every source, by objective; failed rewards count in none."""
    values: dict[str, list[float]] = defaultdict(list)
    for task, found in parts:
        for name, value in found.items():
            values[f"{task}/{name}"].append(value)
    return {name: fmean(found) for name, found in values.items()}


class SourceWeights:
    """SFT's loss with a weight for every task: each row's loss is multiplied by its task's.

    A step's weights follow from its own losses. One micro-batch is the whole step and tells them itself; of several, a
    forward pass without gradients tells them beforehand.
    """

    def __init__(self, objectives: Objectives) -> None:
        self.objectives = objectives
        self._told = False

    def collator(self, collate: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
        """`collate`, and the number of each row's task beside what it makes: `source` [B]."""
        names = self.objectives.names

        def collated(rows: list[dict[str, Any]]) -> dict[str, Any]:
            return {**collate(rows), "source": torch.tensor([names.index(row["task"]) for row in rows])}

        return collated

    def tell(self, model: Any, batches: Sequence[Mapping[str, Any]], step: int) -> None:
        """The micro-batches of the next optimizer step, as arguments of the model and `source`, before it is made."""
        self._told = len(batches) > 1
        if not self._told:
            return
        sums: Any = 0
        with without_dropout(model), torch.no_grad():
            for batch in batches:
                inputs = send_to_device(dict(batch), model.device)
                source = inputs.pop("source")
                outputs = label_scores(model, **inputs, use_cache=False)  # as TRL's loss calls it
                sums = sums + self._sums(source, *_by_row(outputs))
        self._observe(sums, step)

    def more(self, outputs: Any, source: torch.Tensor, tokens: Any, step: int) -> torch.Tensor:
        """What is added to the unweighed loss: (λ − 1) times each row's share of it.

        Args:
            outputs: `cpt.train.output_layer.LabelScores` of a micro-batch.
            source: [B].
            tokens: of the whole optimizer step, which the loss is divided by; None for those of the micro-batch.
        """
        nll_B, tokens_B = _by_row(outputs)
        if not self._told:
            self._observe(self._sums(source, nll_B, tokens_B), step)
        weights = torch.tensor([self.objectives.weight(name) for name in self.objectives.names], device=nll_B.device)
        tokens = tokens_B.sum() if tokens is None else tokens
        return ((weights[source] - 1) * nll_B).sum() / torch.as_tensor(tokens).clamp(min=1)

    def _sums(self, source: torch.Tensor, nll_B: torch.Tensor, tokens_B: torch.Tensor) -> torch.Tensor:
        """Negative log-likelihood and tokens of every task in a micro-batch, [2, tasks]."""
        sums = nll_B.detach().float().new_zeros(2, len(self.objectives.names))
        sums[0].index_add_(0, source, nll_B.detach().float())
        sums[1].index_add_(0, source, tokens_B.float())
        return sums

    def _observe(self, sums: torch.Tensor, step: int) -> None:
        """Move the weights by the sums of a step's rows."""
        totals = sums.tolist()
        values = {name: nll / n for name, nll, n in zip(self.objectives.names, *totals, strict=True) if n}
        self.objectives.observe(values, step, supervised=True)
        self._told = True


def _by_row(outputs: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Negative log-likelihood and number of target tokens of every row."""
    return -outputs.log_probs.sum(dim=1), outputs.label_mask.sum(dim=1)
