"""Objectives that are weighed against each other while a stage trains: RECAP's weights, or ones that stay.

An objective is a source of samples and, for reinforcement learning, a component of its reward. The mathematics is
`cpt.methods.recap`; here it meets the trainers: what each step measures, what a weight acts on, what is logged, and how
a resumed stage comes by its weights again (from its own metrics).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any

from cpt.methods.memory import without_dropout
from cpt.methods.recap import RecapReplay, Reweighting
from cpt.methods.replay import Static
from cpt.methods.side_loss import SideLoss
from cpt.tasks import get_task
from cpt.train.reward import rewards_of

if TYPE_CHECKING:
    import torch

    # The mixin stands before one of TRL's trainers in a class's bases.
    from transformers import Trainer as _Trainer

    from cpt.plan.stages import StagePlan
    from rewards.score import Score
else:
    _Trainer = object

PREFIX = "objective/"
Parts = tuple[str, Mapping[str, float]]
"""A completion's source and the components of its reward; none if the reward failed."""


class Objectives:
    """The weights of one stage, and the values that move them.

    Attributes:
        names: `source` for SFT, `source/component` for reinforcement learning.
    """

    def __init__(self, stage: StagePlan) -> None:
        assert isinstance(stage.replay, RecapReplay | Static)
        self.replay, self.rollouts = stage.replay, stage.method.needs_rollouts
        sources = list(dict.fromkeys([stage.task, *(source.task for source in stage.sources)]))
        if self.rollouts:
            supervised = sources[1:] if stage.replay.loss == "supervised" else []
            paid = [name for name in sources if name not in supervised]
            self.names = [f"{name}/{part}" for name in paid for part in components(stage, name)] + supervised
        else:
            self.names = supervised = sources
        self.supervised = frozenset(supervised)
        self._moving: Reweighting | None = None
        if isinstance(stage.replay, RecapReplay):
            self._moving = Reweighting(stage.replay, self.names, supervised, stage.steps)
        self._seen: list[Parts] = []

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

    def see(self, task: str, score: Score) -> Score:
        """Note a completion's components; its score as it is."""
        parts = {} if score.failed else {name: part for name, part in score.parts.items() if "/" not in name}
        self._seen.append((task, parts))
        return score

    def take(self) -> list[Parts]:
        """What was seen since the last time."""
        seen, self._seen = self._seen, []
        return seen

    def reward(self, seen: Parts) -> float:
        """Σ λ · component, in place of the reward's own sum, at this moment's weights; NaN for a failed reward.

        It may exceed 1: the weights of K objectives add up to K.
        """
        task, parts = seen
        return sum(self.weight(f"{task}/{name}") * part for name, part in parts.items()) if parts else math.nan

    def observe(self, values: Mapping[str, float], step: int, *, supervised: bool) -> dict[str, float]:
        """Tell of a step's values, by objective, before they are weighed, and get what to log of it.

        That is of the objectives of these values' kind alone, with the weights that act on them: where rollouts and a
        side loss are weighed together, each moves all weights before it uses them.

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
        return {PREFIX + name: value for name, value in rows.items()}

    def log(self, trainer: Any, values: Mapping[str, float], step: int, *, supervised: bool) -> None:
        """`observe`, among the trainer's metrics of this step."""
        for key, value in self.observe(values, step, supervised=supervised).items():
            trainer._metrics["train"][key].append(value)

    def weigh_side_loss(self, plugin: SideLoss, trainer: Any) -> None:
        """Let a supervised side loss be an objective per source: weighed, observed, logged by its trainer."""
        plugin.weight, plugin.observe = self.weight, partial(self.log, trainer, supervised=True)

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


def objectives_of(stage: StagePlan) -> Objectives | None:
    """The stage's objectives, if they are weighed."""
    return Objectives(stage) if isinstance(stage.replay, RecapReplay | Static) else None


def components(stage: StagePlan, task: str) -> list[str]:
    """Names of the components that a task's reward has in this stage."""
    known, spec = get_task(task), rewards_of(stage)[task]
    if spec is not None:
        return [component.label for component in spec.build().components]
    sample = known.samples("train", 1)[0]
    return list(known.reward(sample, known.target(sample, "policy", stage.prompt), stage.prompt).parts)


def means(parts: Sequence[Parts]) -> dict[str, float]:
    """Mean of every component of every source, by objective; failed rewards count in none."""
    values: dict[str, list[float]] = defaultdict(list)
    for task, found in parts:
        for name, value in found.items():
            values[f"{task}/{name}"].append(value)
    return {name: fmean(found) for name, found in values.items()}


class SourceCollator:
    """TRL's collator, which drops a row's task, and the task's number beside what it makes: `source` [B]."""

    def __init__(self, collate: Any, names: Sequence[str]) -> None:
        self.collate, self.names = collate, list(names)

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        import torch

        batch: dict[str, Any] = self.collate(examples)
        batch["source"] = torch.tensor([self.names.index(example["task"]) for example in examples])
        return batch


class WeighedSources(_Trainer):
    """For SFTTrainer: every row's loss is multiplied by its source's weight. Without `objectives` nothing is done.

    A step's weights follow from its own losses. One micro-batch is the whole step and tells them itself; of several, a
    forward pass without gradients tells them beforehand.
    """

    objectives: Objectives | None = None

    def weigh(self, objectives: Objectives | None) -> None:
        """Take these objectives along."""
        self.objectives = objectives
        if objectives is not None:
            self.data_collator: Any = SourceCollator(self.data_collator, objectives.names)
            self._told = False

    def tell(self, batches: Sequence[Mapping[str, Any]]) -> None:
        """The collated micro-batches of the next optimizer step, before it is made."""
        if self.objectives is None or len(batches) == 1:
            return
        import torch

        sums: Any = 0
        with without_dropout(self.model), torch.no_grad():
            for batch in batches:
                inputs = self._prepare_inputs(dict(batch))
                source = inputs.pop("source")
                outputs = self.model(**inputs, use_cache=False, fused_lm_head=True)  # as TRL's loss calls it
                sums = sums + self._sums(source, *_by_row(outputs))
        self._observe(sums)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """TRL's loss, Σ over tokens of −log π divided by the tokens of the optimizer step, and (λ − 1) times each row's
        share of it."""
        source = inputs.pop("source", None)
        if self.objectives is None or source is None or not model.training:
            return super().compute_loss(model, inputs, *args, **kwargs)
        import torch

        kept: list[Any] = []
        hook = model.register_forward_hook(lambda _module, _inputs, outputs: kept.append(outputs))
        try:
            loss = super().compute_loss(model, inputs, *args, **kwargs)
        finally:
            hook.remove()
        nll_B, tokens_B = _by_row(kept[0])
        if not self._told:
            self._observe(self._sums(source, nll_B, tokens_B))
        weights = torch.tensor([self.objectives.weight(name) for name in self.objectives.names], device=nll_B.device)
        tokens = kwargs.get("num_items_in_batch")
        tokens = tokens_B.sum() if tokens is None else tokens
        scale = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
        more = ((weights[source] - 1) * nll_B).sum() / torch.as_tensor(tokens).clamp(min=1) * scale
        return loss + more

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """See `Trainer.training_step`; the next optimizer step has other losses."""
        loss = super().training_step(*args, **kwargs)
        if self.objectives is not None and self.accelerator.sync_gradients:
            self._told = False
        return loss

    def _sums(self, source: torch.Tensor, nll_B: torch.Tensor, tokens_B: torch.Tensor) -> torch.Tensor:
        """Negative log-likelihood and tokens of every source in a micro-batch, [2, sources]."""
        assert self.objectives is not None
        sums = nll_B.detach().float().new_zeros(2, len(self.objectives.names))
        sums[0].index_add_(0, source, nll_B.detach().float())
        sums[1].index_add_(0, source, tokens_B.float())
        return sums

    def _observe(self, sums: torch.Tensor) -> None:
        """Move the weights by the sums of a step's rows on this process."""
        assert self.objectives is not None
        totals = self.accelerator.reduce(sums, reduction="sum").tolist()
        values = {name: nll / n for name, nll, n in zip(self.objectives.names, *totals, strict=True) if n}
        self.objectives.log(self, values, self.state.global_step, supervised=True)
        self._told = True


def _by_row(outputs: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Negative log-likelihood and number of target tokens of every row, from what TRL's loss leaves in the outputs."""
    return -outputs.log_probs.sum(dim=1), outputs.label_mask.sum(dim=1)
