"""Rollout-based instance filtering (RIF): which training prompts are worth a policy's time. Rule and selection alone.

Source: RIF-RFT of arXiv 2507.05386. Before training, the policy that is about to be trained samples n = 8 completions
of every prompt at temperature 1. A prompt whose completions all earn the same gives a group-relative method no
gradient. The paper drops every prompt whose rewards have zero variance, all wrong or all right; the released code drops
only those that are never right. `cpt.train.filter` samples, `cpt.methods.filter_file` keeps what was seen.

Two measures of a prompt, both kept, because they are not the same thing:

- its **rewards**, those that the arm trains on. "No update" is a statement about them, so `learnable` looks at them:
  with 0.9 accuracy + 0.1 format, a prompt that is never right but now and then in the format still moves the policy.
- its **pass rate**, the share of completions that the task's strict scoring counts as right, whatever the reward.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from cpt.methods.plugin import Rows, Strict, Temperature

_SAME = 1e-6  # rewards nearer than this are one: trainers hold them in float32
_ROUNDING = 1e-9  # of bounds such as 0.3 against passes/rollouts
Share = Annotated[float, Field(ge=0, le=1)]


class RIF(Strict):
    """Which prompts of a stage are trained on, by rollouts of the policy that the stage starts from.

    `keep: learnable` (the paper) keeps a prompt if its rewards are not all the same; where the reward is 1 for a right
    answer and 0 otherwise, that is 0 < pass rate < 1. `keep: solvable` (the released code) keeps it if its pass rate is
    above 0. `min_pass` and `max_pass` are the general form, inclusive bounds on the pass rate, and stand instead of
    `keep`. Without any of the three, `keep` is `learnable`.

    `control: random_same_size` samples and counts alike, then keeps as many prompts as the rule would, drawn at random
    from all of them: what a filter gains over it is not due to training on fewer different prompts.

    `rollouts` are completions per prompt, sampled at `temperature`.
    """

    type: Literal["rif"]
    rollouts: Rows = 8
    keep: Literal["learnable", "solvable"] | None = None
    control: Literal["none", "random_same_size"] = "none"
    min_pass: Share | None = None
    max_pass: Share | None = None
    temperature: Temperature = 1.0

    def problems(self) -> Iterator[tuple[str, str]]:
        """Settings that contradict each other: (key, what to change)."""
        bounds = [name for name in ("min_pass", "max_pass") if getattr(self, name) is not None]
        if self.keep and bounds:
            yield "keep", f"excludes {' and '.join(bounds)}; leave out one or the other"
        if not self.keep and not bounds:
            yield "keep", "is null without min_pass or max_pass; set learnable or solvable"
        if len(bounds) == 2 and self.min_pass > self.max_pass:  # type: ignore[operator]
            yield "min_pass", f"is {self.min_pass:g}, above max_pass {self.max_pass:g}; exchange the two"
        if self.keep == "learnable" and self.rollouts < 2:
            yield "rollouts", "one rollout's reward has no variance; set 2 or more, or keep: solvable"

    @property
    def rule(self) -> str:
        """The rule in a few words, without the control: `learnable`, `pass rate 0.25 to 1`."""
        if self.keep:
            return self.keep
        low, high = (default if bound is None else bound for bound, default in ((self.min_pass, 0), (self.max_pass, 1)))
        return f"pass rate {low:g} to {high:g}"

    def describe(self) -> str:
        """In one line: `rif learnable, 8 rollouts a prompt, control random_same_size`."""
        control = "" if self.control == "none" else f", control {self.control}"
        return f"{self.type} {self.rule}, {self.rollouts} rollouts a prompt{control}"

    def wants(self, prompt: PromptRollouts) -> bool:
        """Whether the rule keeps this prompt."""
        if self.keep == "learnable":
            return prompt.varied
        if self.keep == "solvable":
            return prompt.passes > 0
        low = 0.0 if self.min_pass is None else self.min_pass
        high = 1.0 if self.max_pass is None else self.max_pass
        return low - _ROUNDING <= prompt.pass_rate <= high + _ROUNDING


def _written_out(value: Any) -> Any:
    """`rif` alone stands for its type; a rule that is left out is the paper's."""
    found = {"type": value} if isinstance(value, str) else value
    if isinstance(found, Mapping) and not {"keep", "min_pass", "max_pass"} & set(found):
        return {**found, "keep": "learnable"}
    return found


Filter = Annotated[RIF, BeforeValidator(_written_out)]


@dataclass(frozen=True)
class PromptRollouts:
    """One training prompt's completions: G of each of these.

    Attributes:
        rewards: what the arm's reward pays for each; None where it gives none.
        right: whether strict scoring counts it as right.
    """

    sample_id: str
    task: str
    completions: tuple[str, ...]
    rewards: tuple[float | None, ...]
    right: tuple[bool, ...]

    @property
    def passes(self) -> int:
        """Right completions."""
        return sum(self.right)

    @property
    def pass_rate(self) -> float:
        """Share of right completions."""
        return self.passes / len(self.right)

    @property
    def reward_mean(self) -> float | None:
        """Over the rewards that there are; None without any."""
        given = self._given
        return math.fsum(given) / len(given) if given else None

    @property
    def reward_std(self) -> float | None:
        """Unbiased standard deviation, as advantages have it; None for fewer than two rewards."""
        given = self._given
        if len(given) < 2:
            return None
        mean = math.fsum(given) / len(given)
        return math.sqrt(math.fsum((reward - mean) ** 2 for reward in given) / (len(given) - 1))

    @property
    def varied(self) -> bool:
        """Whether the rewards differ, so that an advantage within the group is not 0."""
        given = self._given
        return bool(given) and max(given) - min(given) > _SAME

    @property
    def _given(self) -> list[float]:
        return [reward for reward in self.rewards if reward is not None]


def select(rule: RIF, prompts: Sequence[PromptRollouts], seed: str) -> list[bool]:
    """For each prompt, whether it is trained on.

    Args:
        seed: what the control's draw depends on.
    """
    wanted = [rule.wants(prompt) for prompt in prompts]
    if rule.control == "none":
        return wanted
    drawn = set(random.Random(f"filter/{seed}").sample(range(len(prompts)), sum(wanted)))
    return [i in drawn for i in range(len(prompts))]


def histogram(prompts: Sequence[PromptRollouts]) -> list[int]:
    """Prompts by right completions: entry k counts those with k of G, G + 1 entries; [] without prompts."""
    if not prompts:
        return []
    counts = Counter(prompt.passes for prompt in prompts)
    return [counts[passes] for passes in range(len(prompts[0].right) + 1)]


def emptied(rule: RIF, prompts: Sequence[PromptRollouts], task: str) -> str:
    """What a user should know of a stage that the filter leaves nothing to train on."""
    most = len(prompts[0].right)
    counts = ", ".join(f"{passes}/{most} {n}" for passes, n in enumerate(histogram(prompts)) if n)
    return (
        f"the filter ({rule.rule}) keeps none of {len(prompts)} training samples of {task}; prompts by right "
        f"completions: {counts}. Raise filter.rollouts, choose another filter.keep or bounds, or leave the task out"
    )
