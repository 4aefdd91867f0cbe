"""What benchmarks report of many answers, beyond their mean: made from records alone, of one task after one stage.

Which measures there are goes by what the records call their score (`Record.metric`), and by whether they have groups.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cpt.common.console import counted
from cpt.types import Record
from rewards.ifeval import followed

PERCEPTION = frozenset(
    ("existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR")
)
COGNITION = frozenset(("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning"))
"""The subtasks of MME's two sums."""
_MMMU_ID = re.compile(r"(?:dev|validation|test)_(.+)_\d+")


@dataclass(frozen=True, slots=True)
class Measure:
    """One number of a benchmark.

    Attributes:
        of: how many answers, groups or tokens it is made from, in words.
        share: whether it is a share, from 0 to 1; else a number of its own scale.
    """

    name: str
    value: float
    of: str
    share: bool = True

    def __str__(self) -> str:
        return f"{self.value:.3f}" if self.share else f"{self.value:.2f}"


def measures(records: Sequence[Record]) -> list[Measure]:
    """What the records' benchmark reports; nothing where their mean is all there is to say.

    Args:
        records: of one task after one stage.
    """
    if not records:
        return []
    metric = records[0].metric
    own = _BY_METRIC[metric](records) if metric in _BY_METRIC else []
    return own if metric in _WITHOUT_GROUPS else own + _by_group(records)


def verdicts(records: Sequence[Record]) -> list[Measure]:
    """POPE (arXiv 2305.10355): accuracy, precision, recall and F1 of yes, and the share of answers that are yes.

    A right word in another format than the one asked for is neither yes nor no, as it is wrong. Where nothing is
    divided by nothing, the measure is 0.
    """
    wanted = [_says(record.gold[0]) for record in records]
    said = [_answered(record) for record in records]
    both = Counter(zip(said, wanted, strict=True))
    hits, n = both["yes", "yes"], len(records)
    precision = _ratio(hits, said.count("yes"))
    recall = _ratio(hits, wanted.count("yes"))
    return [
        Measure("accuracy", sum(record.score for record in records) / n, counted(n, "answer")),
        Measure("precision", precision, f"{said.count('yes')} answered yes"),
        Measure("recall", recall, f"{wanted.count('yes')} with the answer yes"),
        Measure("F1", _ratio(2 * precision * recall, precision + recall), counted(n, "answer")),
        Measure("yes ratio", said.count("yes") / n, counted(n, "answer")),
    ]


def pairs(records: Sequence[Record]) -> list[Measure]:
    """MME (arXiv 2306.13394): acc, the share of questions that are right; acc+, that of pictures whose two are.

    Groups are `subtask/picture`. A subtask's score is 100 acc + 100 acc+, of 200; perception is the sum over its ten
    subtasks, cognition over its four, and subtasks of neither count in the sum of all alone. Pictures of which not
    exactly two questions were asked are left out, as both measures are of pairs.
    """
    pictures: dict[str, list[float]] = {}
    for record in records:
        pictures.setdefault(record.group, []).append(record.score)
    whole = {name: scores for name, scores in pictures.items() if name and len(scores) == 2}
    if not whole:
        return []
    subtasks: dict[str, list[list[float]]] = {}
    for name, scores in whole.items():
        subtasks.setdefault(name.partition("/")[0], []).append(scores)
    score = {name: 100 * (_acc(own) + _acc_plus(own)) for name, own in subtasks.items()}
    out = len(pictures) - len(whole)
    of = counted(len(whole), "picture") + (f", {out} without a pair left out" if out else "")
    found = [
        Measure("acc", _acc(list(whole.values())), of),
        Measure("acc+", _acc_plus(list(whole.values())), of),
    ]
    for name, own in (("perception", PERCEPTION), ("cognition", COGNITION), ("sum", frozenset(score))):
        there = [one for one in score if one in own]
        if there:
            of = f"{counted(len(there), 'subtask')}, at most {200 * len(there)}"
            found.append(Measure(name, sum(score[one] for one in there), of, share=False))
    return found


def instructions(records: Sequence[Record]) -> list[Measure]:
    """IFEval (arXiv 2311.07911): the share of prompts whose instructions are all followed, and that of instructions.

    Both strictly and loosely. Of a response that said nothing, none is followed.
    """
    marks = [followed(record.extracted) or ["not"] * len(record.gold) for record in records]
    flat = Counter(mark for own in marks for mark in own)
    n, total = len(records), flat.total()
    prompts, each = counted(n, "prompt"), counted(total, "instruction")
    return [
        Measure("prompts, strict", sum(record.score for record in records) / n, prompts),
        Measure("instructions, strict", flat["strictly"] / total, each),
        Measure("prompts, loose", sum(record.tolerant for record in records) / n, prompts),
        Measure("instructions, loose", (flat["strictly"] + flat["loosely"]) / total, each),
    ]


def perplexity(records: Sequence[Record]) -> list[Measure]:
    """exp of minus the mean log-probability of all tokens, texts weighing as many tokens as they have.

    Word perplexity and bits per byte divide by words (by white space) and by UTF-8 bytes of the texts, so models with
    other tokenizers can be compared (as lm-evaluation-harness does).
    """
    tokens = sum(record.n_tokens for record in records)
    if not tokens:
        return []
    lost = sum(-math.log(record.score) * record.n_tokens if record.score else math.inf for record in records)
    found = [Measure("perplexity", _exp(lost / tokens), counted(tokens, "token"), share=False)]
    words = sum(len(record.prompt.split()) for record in records)
    size = sum(len(record.prompt.encode()) for record in records)
    if words:
        found += [
            Measure("word perplexity", _exp(lost / words), counted(words, "word"), share=False),
            Measure("bits per byte", lost / size / math.log(2), counted(size, "byte"), share=False),
        ]
    return found


def _by_group(records: Sequence[Record]) -> list[Measure]:
    """The mean over groups of each one's mean score. MMMU's groups are ids, whose subject counts."""
    groups: dict[str, list[float]] = {}
    for record in records:
        if record.group:
            subject = _MMMU_ID.fullmatch(record.group)
            groups.setdefault(subject[1] if subject else record.group, []).append(record.score)
    if not groups:
        return []
    mean = sum(sum(own) / len(own) for own in groups.values()) / len(groups)
    return [Measure("mean of groups", mean, counted(len(groups), "group"))]


_BY_METRIC: Mapping[str, Callable[[Sequence[Record]], list[Measure]]] = {
    "pope": verdicts,
    "mme": pairs,
    "ifeval": instructions,
    "token-probability": perplexity,
}
_WITHOUT_GROUPS = frozenset(("mme", "token-probability"))


def _says(gold: str) -> str:
    return gold.lower().replace(".", "").strip()


def _answered(record: Record) -> str:
    """Yes or no, as the score counts it; "" where the right word earned nothing, as it stood in another format."""
    right = record.extracted in map(_says, record.gold)
    return record.extracted if right == (record.score == 1) else ""


def _acc(own: Sequence[Sequence[float]]) -> float:
    return sum(map(sum, own)) / (2 * len(own))


def _acc_plus(own: Sequence[Sequence[float]]) -> float:
    return sum(sum(scores) == 2 for scores in own) / len(own)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
