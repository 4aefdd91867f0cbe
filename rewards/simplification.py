"""SARI: whether a text was simplified as people do it, by what was kept, deleted and added."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rewards.extract import Read, Template, read_text
from rewards.match import accepted, bad_gold, unrewarded
from rewards.ngrams import Ngram, marked_words, ngrams
from rewards.registry import reward
from rewards.score import Score

N = 4
MAX_WORDS = 4_000
"""Of longer texts, so many words are counted."""


@reward(
    "sari",
    source="Xu et al. 2016, TACL Q16-1029, as the Hugging Face metric sari computes it (TRACE, arXiv 2310.06762)",
    formula="mean over n = 1…4 of (F1 of kept + precision of deleted + F1 of added n-grams) / 3",
)
def sari(
    completion: str,
    *,
    gold: Sequence[str],
    question: str = "",
    meta: Mapping[str, Any] | None = None,
    template: Template = "direct",
    read: Read = "strict",
    **_: object,
) -> Score:
    """SARI of a simplification against the text that was to be simplified and gold, the simplifications of people.

    The source is `source` in the row's `meta`, else the question: TRACE takes the whole prompt, instruction included.
    Words are mteval-v13a's in lower case. As in the Hugging Face metric, and unlike in the paper's first code, 0/0
    is 1, and the recall of what is kept is over all occurrences. Parts: `keep`, `delete`, `add`; papers print hundred
    times the value.

    Limits: partial credit: a text that has none of the source's words has deleted well and earns a sixth or more
    (look-alikes, an injected verdict, a placeholder); one that has others beside the right ones hardly loses (several
    answers, a denial, an extremely long text), and the unchanged source earns what is to be kept. Only good beside
    other rewards. Of texts beyond 4,000 words the rest is not counted.
    """
    references = [marked_words(answer)[:MAX_WORDS] for answer in accepted(gold) if answer.strip()]
    source = str((meta or {}).get("source") or question)
    if not references or not source.strip():
        return bad_gold("sari needs a gold answer, and the text to be simplified as the question or in the row's meta")
    # The question again is a bad simplification, but one that SARI has a score for.
    said = read_text(completion, read, template)
    if said.status != "ok":
        return unrewarded(said, "keep", "delete", "add")
    before, after = marked_words(source)[:MAX_WORDS], marked_words(said.raw)[:MAX_WORDS]
    scores = [
        _operations(ngrams(before, n), ngrams(after, n), [ngrams(one, n) for one in references])
        for n in range(1, N + 1)
    ]
    keep, delete, add = (sum(column) / N for column in zip(*scores, strict=True))
    return Score((keep + delete + add) / 3, {"keep": keep, "delete": delete, "add": add}, said.answer)


def _operations(
    source: Counter[Ngram], said: Counter[Ngram], references: Sequence[Counter[Ngram]]
) -> tuple[float, float, float]:
    """How well n-grams were kept (F1), deleted (precision) and added (F1)."""
    times = len(references)
    wanted = sum(references, Counter())
    before, after = (Counter({one: count * times for one, count in text.items()}) for text in (source, said))
    kept, to_keep = before & after, before & wanted
    well_kept = kept & wanted
    precision = _share(sum(count / kept[one] for one, count in well_kept.items()), len(kept))
    recall = _share(well_kept.total(), to_keep.total())
    deleted = before - after
    well_deleted = deleted - wanted
    delete = _share(sum(count / deleted[one] for one, count in well_deleted.items()), len(deleted))
    added, to_add = after.keys() - before.keys(), wanted.keys() - before.keys()
    well_added = len(added & wanted.keys())
    return _f1(precision, recall), delete, _f1(_share(well_added, len(added)), _share(well_added, len(to_add)))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 1.0


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
