"""An arm's plug-ins around one stage: what they may know of it, what they find and what they leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.methods.plugin import Batch, Plugin, Setting, Stage
from cpt.methods.snapshot import Snapshot
from cpt.types import Sample, Task

if TYPE_CHECKING:
    from cpt.folder import StageDir
    from cpt.plan import StagePlan

FOLDER = "plugins"
"""Folder beside a stage's policy; each plug-in has one of its own in it."""


class StagePlugins:
    """The plug-ins of one stage.

    Args:
        start: the folder that the stage's policy started from; what the stage before left lies beside it.
    """

    def __init__(self, plan: StagePlan, start: Path, out: StageDir, task: Task, processor: Any) -> None:
        self.plan, self.start, self.out, self.task, self.processor = plan, start, out, task, processor
        self.settings: list[Setting] = [*plan.regularisers, *([] if plan.kl is None else [plan.kl])]
        self.plugins: dict[str, Plugin] = {setting.type: setting.plugin() for setting in self.settings}
        self.references: dict[str, Any] = {}
        self.at_start = True

    def before(self, trainer: Any) -> None:
        """Prepare every plug-in and hand them to the trainer, whose policy has the stage's first weights."""
        trainer.attach(self.plugins, frozenset(setting.type for setting in self.settings if setting.needs_rollouts))
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
            index=self.plan.index,
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
            if name not in self.references:
                if name == "stage_start" and self.at_start:  # the policy as it is now: no model has to be loaded
                    trained = {key: p for key, p in policy.named_parameters() if p.requires_grad}
                    self.references[name] = Snapshot(policy, trained)
                else:
                    self.references[name] = self._load(name, policy)
            return self.references[name]

        return reference

    def _load(self, name: str, policy: Any) -> Any:
        from cpt.models.load import load_policy
        from cpt.rollout.trl import ban_tokens

        path = {"stage_start": str(self.start), "base": self.plan.model.path}.get(name, name)
        trust = self.plan.model.trust_remote_code
        model: Any = load_policy(path, dtype=self.plan.model.dtype, trust_remote_code=trust)
        theirs, ours = (len(one.get_output_embeddings().weight) for one in (model, policy))
        if theirs != ours:
            raise ValueError(f"{path} can't be the reference of this policy: it has {theirs} tokens, not {ours}")
        if self.plan.method.needs_rollouts:
            ban_tokens(model)  # as the policy's are
        return model.to(policy.device).eval().requires_grad_(False)


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
