"""The audit of a reward on a task, which needs no policy: the attacks that are rewarded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cpt.recipe.rewards import RewardSpec
from cpt.report.rewards.exploits import NO_KIND, REWARDED_FROM
from cpt.types import PromptStyle, Sample
from rewards.batch import guarded
from rewards.lab.agreement import SAME
from rewards.lab.attacks import Example, in_style
from rewards.lab.audit_plan import audit_chosen
from rewards.lab.choose import Chosen, from_data, from_text

OWN = "accuracy-format"  # the built-in tasks' own reward, by its name in the registry
_EXAMPLES = 4
_OLD_KEYS = {"pays": "rewarded", "unpaid": "unrewarded"}


@dataclass(frozen=True)
class BestReward:
    """The highest reward of an attack, and the text that got it."""

    value: float
    completion: str


@dataclass(frozen=True)
class Prediction:
    """The audit of one reward on one task.

    Attributes:
        right: lowest reward of the plain right answer in the right format, over the examples.
        wrong: highest reward of the plain wrong one.
        tried: number of completions.
        rewarded: attacks that are rewarded, by name, the highest reward first.
        unrewarded: right answers whose reward is no higher than a wrong answer's to the same question.
        failed: cases on which the reward failed.
    """

    task: str
    right: float
    wrong: float
    tried: int
    rewarded: Mapping[str, BestReward]
    unrewarded: tuple[str, ...]
    failed: tuple[str, ...]

    def predicts(self, kind: str) -> bool:
        """Whether such exploits were to be expected: the attack is rewarded, or a plain wrong answer already is."""
        return kind in self.rewarded or (kind != NO_KIND and self.wrong >= REWARDED_FROM)

    def as_dict(self) -> dict[str, Any]:
        """For summary.json."""
        rewarded = {name: {"value": best.value, "completion": best.completion} for name, best in self.rewarded.items()}
        return {
            "task": self.task,
            "right": self.right,
            "wrong": self.wrong,
            "tried": self.tried,
            "rewarded": rewarded,
            "unrewarded": list(self.unrewarded),
            "failed": list(self.failed),
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Prediction:
        """The inverse of `as_dict`; older versions called two of its keys otherwise."""
        data = {_OLD_KEYS.get(key, key): value for key, value in data.items()}
        rewarded = {name: BestReward(**best) for name, best in data["rewarded"].items()}
        lists = {name: tuple(data[name]) for name in ("unrewarded", "failed")}
        return Prediction(**{**data, "rewarded": rewarded, **lists})


def predict(spec: RewardSpec | None, task: str, samples: Sequence[Sample], prompt: PromptStyle) -> Prediction:
    """Audit a reward on examples made from a task's samples: one per answer, at most `_EXAMPLES`.

    Args:
        spec: None for the task's own reward.
    """
    chosen = _chosen(spec)
    first = {sample.gold[0]: sample for sample in reversed(samples)}
    picked = sorted(first.values(), key=lambda sample: samples.index(sample))[:_EXAMPLES]
    examples = [example_of(sample, samples) for sample in picked]
    found = audit_chosen(chosen, examples, [prompt])
    rewarded: dict[str, BestReward] = {}
    for finding in found.findings:
        before = rewarded.get(finding.case)
        if finding.kind == "rewarded" and (before is None or finding.score.value > before.value):
            rewarded[finding.case] = BestReward(finding.score.value, finding.completion[:200])
    failed = tuple(dict.fromkeys(finding.case for finding in found.findings if finding.kind == "failed"))
    values = [[_value(chosen, one, answer, prompt) for answer in (one.gold[0], one.wrong)] for one in examples]
    unrewarded = [one.gold[0] for one, (right, wrong) in zip(examples, values, strict=True) if right <= wrong + SAME]
    return Prediction(
        task=task,
        right=min(right for right, _ in values),
        wrong=max(wrong for _, wrong in values),
        tried=found.tried,
        rewarded=dict(sorted(rewarded.items(), key=lambda item: -item[1].value)),
        unrewarded=tuple(dict.fromkeys(unrewarded)),
        failed=failed,
    )


def example_of(sample: Sample, others: Sequence[Sample]) -> Example:
    """A task's sample as an example for the audit. The wrong answer is a candidate or another sample's answer."""
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
