"""Rollout-based instance filtering (RIF): which training prompts are worth a policy's time.

The setting with its rule, the selection, and filter.parquet, its result. `cpt.run.filtering` samples.

Source: RIF-RFT of arXiv 2507.05386. Before training, the policy that is about to be trained samples n = 8 completions
of every prompt at temperature 1. A prompt whose completions all earn the same gives a group-relative method no
gradient. The paper drops every prompt whose rewards have zero variance, all wrong or all right; the released code drops
only those that are never right.

Two measures of a prompt, both kept, because they are not the same thing:

- its **rewards**, those that the arm trains on. "No update" is a statement about them, so `learnable` looks at them:
  with 0.9 accuracy + 0.1 format, a prompt that is never right but now and then in the format still moves the policy.
- its **pass rate**, the share of completions that the task's strict scoring counts as right, whatever the reward.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ValidationError

from cpt.common.digests import bytes_digest
from cpt.common.files import AGAIN, atomic_path
from cpt.common.parquet import read_rows
from cpt.methods.setting import Part, Proportion, Rows, SamplingTemperature

_SAME = 1e-6  # rewards nearer than this are one: trainers hold them in float32
_ROUNDING = 1e-9  # of bounds such as 0.3 against passes/rollouts
_ABOUT = b"cpt.filter/2"  # with a digest of all that the file says
_ABOUT_BEFORE = b"cpt.filter"
_UNREADABLE = (json.JSONDecodeError, UnicodeDecodeError, ValidationError)


class RIF(Part):
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
    min_pass: Proportion | None = None
    max_pass: Proportion | None = None
    temperature: SamplingTemperature = 1.0

    def problems(self) -> Iterator[tuple[str, str]]:
        """See `Part.problems`."""
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
        rewards: what the arm's reward gives for each; None where it gives none.
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
        """Proportion of right completions."""
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


@dataclass(frozen=True)
class FilterFile:
    """One filter's evidence.

    Attributes:
        key: of the stage that it belongs to; empty for one that `cpt filter` wrote.
        prompts: P training prompts, in the order of the task's samples.
        kept: for each, whether it is trained on.
    """

    key: str
    rule: RIF
    prompts: Sequence[PromptRollouts]
    kept: Sequence[bool]

    def counts(self) -> tuple[list[int], list[int]]:
        """All prompts, and the kept ones, by right completions (see `histogram`); equally long."""
        everything = histogram(self.prompts)
        chosen = histogram([prompt for prompt, kept in zip(self.prompts, self.kept, strict=True) if kept])
        return everything, chosen or [0] * len(everything)


def write_filter(path: Path, found: FilterFile) -> None:
    """Write the file. Columns beside `FilterFile`'s own: rollouts, passes, pass_rate, reward_mean, reward_std."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [_row(prompt, kept) for prompt, kept in zip(found.prompts, found.kept, strict=True)]
    known: dict[str, Any] = {"key": found.key, "rule": found.rule.model_dump(mode="json")}
    about = json.dumps({**known, "digest": _digest(known, rows)}, sort_keys=True)
    table = pa.Table.from_pylist(rows, schema=_schema().with_metadata({_ABOUT: about.encode()}))
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_filter(path: Path) -> FilterFile:
    """Read the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is damaged, or written by another version of cpt.
    """
    rows, metadata = read_rows(path, _schema(), AGAIN)
    about = metadata.get(_ABOUT, metadata.get(_ABOUT_BEFORE, b""))
    try:
        known = json.loads(about)
        digest = known.pop("digest", None)
        if _ABOUT in metadata and digest != _digest(known, rows):
            raise ValueError(f"{path}: not what the filter wrote; {AGAIN}")
        rule = RIF.model_validate(known["rule"])
    except (KeyError, AttributeError, TypeError, RecursionError, *_UNREADABLE) as error:
        raise ValueError(f"{path}: not the evidence of a filter, or another version's; {AGAIN}") from error
    prompts = [
        PromptRollouts(
            sample_id=row["sample_id"],
            task=row["task"],
            completions=tuple(row["completions"]),
            rewards=tuple(row["rewards"]),
            right=tuple(row["right"]),
        )
        for row in rows
    ]
    return FilterFile(str(known["key"]), rule, prompts, [row["kept"] for row in rows])


def _digest(known: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    return bytes_digest(json.dumps([known, rows], sort_keys=True).encode())


def _row(prompt: PromptRollouts, kept: bool) -> dict[str, Any]:
    return {
        "sample_id": prompt.sample_id,
        "task": prompt.task,
        "rollouts": len(prompt.right),
        "passes": prompt.passes,
        "pass_rate": prompt.pass_rate,
        "reward_mean": prompt.reward_mean,
        "reward_std": prompt.reward_std,
        "kept": kept,
        "completions": list(prompt.completions),
        "rewards": list(prompt.rewards),
        "right": list(prompt.right),
    }


def _schema() -> Any:
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("sample_id", pa.string(), nullable=False),
            pa.field("task", pa.string(), nullable=False),
            pa.field("rollouts", pa.int32(), nullable=False),
            pa.field("passes", pa.int32(), nullable=False),
            pa.field("pass_rate", pa.float64(), nullable=False),
            pa.field("reward_mean", pa.float64()),  # null where the reward gave none
            pa.field("reward_std", pa.float64()),
            pa.field("kept", pa.bool_(), nullable=False),
            pa.field("completions", pa.list_(pa.string()), nullable=False),
            pa.field("rewards", pa.list_(pa.float64()), nullable=False),
            pa.field("right", pa.list_(pa.bool_()), nullable=False),
        ]
    )
