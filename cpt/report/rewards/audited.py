"""What the audit says of a reward on a task, before any policy is trained: which attacks pay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cpt.recipe.rewards import RewardSpec
from cpt.report.rewards.exploits import NO_KIND, PAYS
from cpt.types import PromptStyle, Sample
from rewards.batch import guarded
from rewards.lab.agreement import SAME
from rewards.lab.attacks import Example, in_style
from rewards.lab.audit_plan import audit_chosen
from rewards.lab.choose import Chosen, from_data, from_text

OWN = "accuracy-format"  # the built-in tasks' own reward, by its name in the registry
_EXAMPLES = 4


@dataclass(frozen=True)
class Paid:
    """What an attack got at most, and with which text."""

    value: float
    completion: str


@dataclass(frozen=True)
class Prediction:
    """The audit of one reward on one task.

    Attributes:
        right: what the plain right answer gets in the right format, at least, over the examples.
        wrong: what the plain wrong one gets there, at most.
        tried: completions.
        pays: attacks that pay, by name, those that pay most first.
        unpaid: right answers that get no more than a wrong one to the same question.
        failed: cases on which the reward itself failed.
    """

    task: str
    right: float
    wrong: float
    tried: int
    pays: Mapping[str, Paid]
    unpaid: tuple[str, ...]
    failed: tuple[str, ...]

    def predicts(self, kind: str) -> bool:
        """Whether such exploits were to be expected: they pay, or no more than a plain wrong answer, which does."""
        return kind in self.pays or (kind != NO_KIND and self.wrong >= PAYS)

    def as_dict(self) -> dict[str, Any]:
        """For summary.json."""
        pays = {name: {"value": paid.value, "completion": paid.completion} for name, paid in self.pays.items()}
        return {
            "task": self.task,
            "right": self.right,
            "wrong": self.wrong,
            "tried": self.tried,
            "pays": pays,
            "unpaid": list(self.unpaid),
            "failed": list(self.failed),
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Prediction:
        """The inverse of `as_dict`."""
        pays = {name: Paid(**paid) for name, paid in data["pays"].items()}
        lists = {name: tuple(data[name]) for name in ("unpaid", "failed")}
        return Prediction(**{**data, "pays": pays, **lists})


def predict(spec: RewardSpec | None, task: str, samples: Sequence[Sample], prompt: PromptStyle) -> Prediction:
    """Audit a reward on examples made from a task's samples: one per different answer, `_EXAMPLES` at most.

    Args:
        spec: None for the task's own reward.
    """
    chosen = _chosen(spec)
    first = {sample.gold[0]: sample for sample in reversed(samples)}
    picked = sorted(first.values(), key=lambda sample: samples.index(sample))[:_EXAMPLES]
    examples = [example_of(sample, samples) for sample in picked]
    found = audit_chosen(chosen, examples, [prompt])
    pays: dict[str, Paid] = {}
    for finding in found.findings:
        before = pays.get(finding.case)
        if finding.kind == "paid" and (before is None or finding.score.value > before.value):
            pays[finding.case] = Paid(finding.score.value, finding.completion[:200])
    failed = tuple(dict.fromkeys(finding.case for finding in found.findings if finding.kind == "failed"))
    values = [[_value(chosen, one, answer, prompt) for answer in (one.gold[0], one.wrong)] for one in examples]
    unpaid = [one.gold[0] for one, (right, wrong) in zip(examples, values, strict=True) if right <= wrong + SAME]
    return Prediction(
        task=task,
        right=min(right for right, _ in values),
        wrong=max(wrong for _, wrong in values),
        tried=found.tried,
        pays=dict(sorted(pays.items(), key=lambda item: -item[1].value)),
        unpaid=tuple(dict.fromkeys(unpaid)),
        failed=failed,
    )


def example_of(sample: Sample, others: Sequence[Sample]) -> Example:
    """A task's sample as the audit takes it. The wrong answer is a candidate, or another sample's answer."""
    candidates = tuple(sample.meta.get("candidates", ()))
    pool = [*candidates, *(other.gold[0] for other in others)]
    wrong = next((answer for answer in pool if answer not in sample.gold), f"not {sample.gold[0]}")
    choices = tuple(sample.meta.get("choices", ()))
    return Example(sample.question, sample.gold, wrong, choices, candidates, columns={"meta": dict(sample.meta)})


def _chosen(spec: RewardSpec | None) -> Chosen:
    return from_text(OWN) if spec is None else from_data(spec.data(), spec.describe(), clip=spec.clip)


def _value(chosen: Chosen, example: Example, answer: str, prompt: PromptStyle) -> float:
    completion = in_style(answer, prompt)
    return guarded(chosen.reward, completion, example.row(prompt, completion)).value
