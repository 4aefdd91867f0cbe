"""An arm's plug-ins around one stage: what they may know of it, what they find and what they leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.methods.plugin import Batch, Plugin, Stage
from cpt.tasks import get_task
from cpt.train.data import training_samples
from cpt.train.settings import stage_seed
from cpt.train.side_loss import SIDE_LOSS, side_loss
from cpt.types import Sample, TargetStyle

if TYPE_CHECKING:
    from cpt.folder import StageDir
    from cpt.plan import StagePlan

FOLDER = "plugins"
"""Folder beside a stage's policy; each plug-in has one of its own in it."""


class StagePlugins:
    """The plug-ins of one stage.

    Args:
        own: the stage's own training samples.
        start: the folder that the stage's policy started from; what the stage before left lies beside it.
        step: optimizer steps that an earlier process has done.
    """

    def __init__(
        self, plan: StagePlan, own: Sequence[Sample], start: Path, out: StageDir, processor: Any, step: int = 0
    ) -> None:
        self.plan, self.own, self.start, self.out, self.processor, self.step = plan, own, start, out, processor, step
        self.plugins: dict[str, Plugin] = {setting.type: setting.plugin() for setting in plan.regularisers}
        replay = side_loss(plan)
        if replay is not None:
            self.plugins[SIDE_LOSS] = replay

    def before(self, trainer: Any) -> None:
        """Prepare every plug-in and hand them to the trainer, whose policy has the stage's first weights."""
        trainer.attach(self.plugins)
        for name, plugin in self.plugins.items():
            plugin.before_stage(self._stage(name, trainer))

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
            parameters={key: p for key, p in policy.named_parameters() if p.requires_grad},
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
                yield supervised_batch(self.processor, found[start : start + rows], self.plan, policy.device)

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
            return supervised_batch(self.processor, samples, self.plan, policy.device, style)

        return batch_of

    def _reference(self, policy: Any) -> Callable[[str], Any]:
        def reference(name: str) -> Any:
            from cpt.models.load import load_policy
            from cpt.rollout.trl import ban_tokens

            known: Mapping[str, str | Path] = {"stage_start": self.start, "base": self.plan.model.path}
            model: Any = load_policy(
                known.get(name, name), dtype=self.plan.model.dtype, trust_remote_code=self.plan.model.trust_remote_code
            )
            if self.plan.method.needs_rollouts:
                ban_tokens(model)  # as the policy's are
            return model.to(policy.device).eval().requires_grad_(False)

        return reference


def supervised_batch(
    processor: Any, samples: Sequence[Sample], plan: StagePlan, device: Any, style: TargetStyle = "policy"
) -> Batch:
    """Prompts with their targets, by default in the prompt's format; labels on the targets and their end of turn."""
    end = processor.tokenizer.eos_token
    prompts, targets = [], []
    for sample in samples:
        task = get_task(sample.task)
        chat = task.messages(sample, plan.prompt)
        prompts.append(processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False))
        targets.append(task.target(sample, style, plan.prompt) + end)
    images = [list(sample.images) for sample in samples]
    texts = [prompt + target for prompt, target in zip(prompts, targets, strict=True)]
    pictures = images if any(images) else None
    inputs = processor(text=texts, images=pictures, padding=True, padding_side="right", return_tensors="pt").to(device)
    lengths = [len(ids) for ids in processor.tokenizer(targets, add_special_tokens=False)["input_ids"]]
    labels = inputs["input_ids"].clone()
    for row, (length, real) in enumerate(zip(lengths, inputs["attention_mask"].sum(1).tolist(), strict=True)):
        labels[row, : real - length] = -100
        labels[row, real:] = -100
    return Batch(dict(inputs), labels)
