"""An arm's plug-ins around one stage: what they may know of it, what they find and what they leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.methods.plugin import Batch, Plugin, Stage
from cpt.methods.sdft import SDFT
from cpt.methods.setting import Setting
from cpt.methods.snapshot import Snapshot
from cpt.models.inputs import ModelInputs
from cpt.models.load import load_policy
from cpt.models.policy import trainable
from cpt.rollout.encode import render_prompts
from cpt.rollout.sampling import ban_tokens
from cpt.tasks import get_task
from cpt.train.data import training_samples
from cpt.train.settings import stage_seed
from cpt.train.side_loss import SIDE_LOSS, side_loss
from cpt.train.supervised import answered
from cpt.types import Sample, TargetStyle

if TYPE_CHECKING:
    from cpt.plan.stages import StagePlan
    from cpt.store.folder import StageDir
    from cpt.train.weighting import Objectives

FOLDER = "plugins"
"""Folder beside a stage's policy; each plug-in has one of its own in it."""


def settings_of(plan: StagePlan) -> list[Setting]:
    """What the plan says of plug-ins: its regularisers in their order, and its KL term."""
    return [*plan.regularisers, *([] if plan.kl is None else [plan.kl])]


def make_plugins(plan: StagePlan, objectives: Objectives | None = None) -> dict[str, Plugin]:
    """A stage's plug-ins by name, in the order in which every one of their points is called.

    The moving average that `merge: ema` asks for comes first: what others see at a stage's end is the merged policy.
    SDFT's loss is next. Regularisers follow as the recipe lists them, those that hold parameters still last
    (`Plugin.holds_still`).

    Args:
        objectives: of the stage, which may weigh what is replayed.
    """
    plugins: dict[str, Plugin] = {}
    if plan.merge is not None and (along := plan.merge.plugin()) is not None:
        plugins["merge"] = along
    if isinstance(plan.method, SDFT):
        plugins[plan.method.type] = plan.method.plugin()
    plugins |= {setting.type: setting.plugin() for setting in settings_of(plan)}
    replay = side_loss(plan, objectives)
    if replay is not None:
        plugins[SIDE_LOSS] = replay
    return dict(sorted(plugins.items(), key=lambda item: item[1].holds_still))


def rewarding(plan: StagePlan) -> frozenset[str]:
    """Names of the plug-ins that change the reward."""
    return frozenset(setting.type for setting in settings_of(plan) if setting.changes_reward)


class StagePlugins:
    """The plug-ins of one stage.

    Args:
        plugins: see `make_plugins`.
        own: the stage's own training samples.
        start: the folder that the stage's policy started from; what the stage before left lies beside it.
        step: optimizer steps that an earlier process has done.
    """

    def __init__(
        self,
        plan: StagePlan,
        plugins: Mapping[str, Plugin],
        own: Sequence[Sample],
        start: Path,
        out: StageDir,
        processor: Any,
        step: int = 0,
    ) -> None:
        self.plan, self.plugins, self.own, self.start, self.out = plan, plugins, own, start, out
        self.processor, self.step = processor, step
        self.references: dict[str, Any] = {}
        self.at_start = True

    def before(self, trainer: Any) -> None:
        """Prepare every plug-in: the trainer's policy has the stage's first weights."""
        for name, plugin in self.plugins.items():
            plugin.before_stage(self._stage(name, trainer))
        self.at_start = False

    def after(self, trainer: Any) -> None:
        """Let every plug-in look at the finished policy and leave what the next stage needs."""
        for name, plugin in self.plugins.items():
            plugin.after_stage(self._stage(name, trainer))

    def _stage(self, name: str, trainer: Any) -> Stage:
        policy = trainer.accelerator.unwrap_model(trainer.model)
        earlier = self.start.parent / FOLDER / name
        return Stage(
            index=1 if self.plan.from_base else self.plan.index,
            seed=stage_seed(self.plan),
            step=self.step,
            task=self.plan.task,
            samples=self.plan.data_samples,
            finished=tuple((source.task, source.samples) for source in self.plan.finished),
            model=policy,
            parameters=trainable(policy),
            memory=self.out.policy.parent / FOLDER / name,
            earlier=earlier if not self.plan.from_base and earlier.is_dir() else None,
            batches=self._batches(policy),
            batch_of=self._batch_of(policy),
            reference=self._reference(policy),
        )

    def _batches(self, policy: Any) -> Callable[[int, int], Iterator[Batch]]:
        def batches(samples: int, rows: int) -> Iterator[Batch]:
            found = self.own[:samples]
            for start in range(0, len(found), rows):
                yield supervised_batch(self.processor, found[start : start + rows], self.plan, policy)

        return batches

    def _batch_of(self, policy: Any) -> Callable[[Sequence[tuple[str, int]]], Batch]:
        counts = {source.task: source.samples for source in (*self.plan.finished, *self.plan.sources)}
        counts.setdefault(self.plan.task, self.plan.data_samples)
        style: TargetStyle = getattr(self.plan.method, "target_style", "policy")

        @cache
        def samples_of(task: str) -> list[Sample]:
            return training_samples(task, counts[task], self.plan)

        def batch_of(rows: Sequence[tuple[str, int]]) -> Batch:
            samples = [samples_of(task)[position] for task, position in rows]
            return supervised_batch(self.processor, samples, self.plan, policy, style)

        return batch_of

    def _reference(self, policy: Any) -> Callable[[str], Any]:
        def reference(name: str) -> Any:
            if name not in self.references:
                if name == "stage_start" and self.at_start:  # the policy as it is now: no model has to be loaded
                    self.references[name] = Snapshot(policy, trainable(policy))
                else:
                    self.references[name] = self._load(name, policy)
            return self.references[name]

        return reference

    def _load(self, name: str, policy: Any) -> Any:
        path = {"stage_start": str(self.start), "base": self.plan.model.path}.get(name, name)
        model: Any = load_policy(path, dtype=self.plan.model.dtype, **self.plan.model.loading)
        theirs, ours = (len(one.get_output_embeddings().weight) for one in (model, policy))
        if theirs != ours:
            raise ValueError(f"{path} can't be the reference of this policy: it has {theirs} tokens, not {ours}")
        if self.plan.method.needs_rollouts:
            ban_tokens(model)  # as the policy's are
        return model.to(policy.device).eval().requires_grad_(False)


def supervised_batch(
    processor: Any, samples: Sequence[Sample], plan: StagePlan, model: Any, style: TargetStyle = "policy"
) -> Batch:
    """Prompts with their targets, by default in the prompt's format; labels on the targets and their end of turn."""
    inputs = ModelInputs(processor, model)
    chats, targets = [], []
    for sample in samples:
        task = get_task(sample.task)
        chats.append(task.messages(sample, plan.prompt))
        targets.append(task.target(sample, style, plan.prompt) + inputs.tokenizer.eos_token)
    prompts = inputs.read(render_prompts(processor, chats), [sample.images for sample in samples])
    return Batch(*answered(inputs, list(prompts), targets, model.device))
