"""An arm's plug-ins around one stage: what they may know of it, what they find and what they leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.methods.ema import Average
from cpt.methods.plugin import Batch, Plugin, Stage
from cpt.train.settings import stage_seed
from cpt.types import Sample, Task

if TYPE_CHECKING:
    from cpt.folder import StageDir
    from cpt.plan import StagePlan

FOLDER = "plugins"
"""Folder beside a stage's policy; each plug-in has one of its own in it."""


def make_plugins(plan: StagePlan) -> dict[str, Plugin]:
    """A stage's plug-ins by name, in the order in which every one of their points is called.

    The moving average that `merge: ema` asks for comes first: what others see at a stage's end is the merged policy.
    Regularisers follow as the recipe lists them, those that hold parameters still last (`Plugin.holds_still`).
    """
    plugins: dict[str, Plugin] = {}
    if plan.merge is not None and plan.merge.type == "ema":
        plugins["merge"] = Average(plan.merge.decay)
    plugins |= {setting.type: setting.plugin() for setting in plan.regularisers}
    return dict(sorted(plugins.items(), key=lambda item: item[1].holds_still))


class StagePlugins:
    """The plug-ins of one stage.

    Args:
        start: the folder that the stage's policy started from; what the stage before left lies beside it.
    """

    def __init__(self, plan: StagePlan, start: Path, out: StageDir, task: Task, processor: Any) -> None:
        self.plan, self.start, self.out, self.task, self.processor = plan, start, out, task, processor
        self.plugins = make_plugins(plan)

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
            index=self.plan.index,
            seed=stage_seed(self.plan),
            model=policy,
            parameters={key: p for key, p in policy.named_parameters() if p.requires_grad},
            memory=self.out.policy.parent / FOLDER / name,
            earlier=earlier if self.plan.index > 1 and earlier.is_dir() else None,
            batches=self._batches(policy),
            reference=self._reference(policy),
        )

    def _batches(self, policy: Any) -> Callable[[int, int], Iterator[Batch]]:
        def batches(samples: int, rows: int) -> Iterator[Batch]:
            found = self.task.samples("train", min(samples, self.plan.data_samples), self.plan.seed)
            for start in range(0, len(found), rows):
                yield supervised_batch(self.processor, self.task, found[start : start + rows], self.plan, policy.device)

        return batches

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


def supervised_batch(processor: Any, task: Task, samples: list[Sample], plan: StagePlan, device: Any) -> Batch:
    """Prompts with their supervised targets in the prompt's format; labels on the targets and their end of turn."""
    end = processor.tokenizer.eos_token
    prompts = [
        processor.apply_chat_template(task.messages(sample, plan.prompt), add_generation_prompt=True, tokenize=False)
        for sample in samples
    ]
    targets = [task.target(sample, "policy", plan.prompt) + end for sample in samples]
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
