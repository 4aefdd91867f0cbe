"""How a completion is scored under a metric, strictly and tolerantly, and the default reward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cpt.tasks.row import reward_row
from cpt.types import PromptStyle, Sample
from rewards import metrics, registry
from rewards.captions import DocumentFrequencies, document_frequencies
from rewards.extract import read_answer
from rewards.score import Score
from rewards.templates import Template

if TYPE_CHECKING:
    from cpt.common.stored_pictures import StoredPictures
    from cpt.tasks.row_index import RowIndex
    from cpt.tasks.rows import Fields
    from cpt.tasks.sources import Row

FORMAT_WEIGHT = 0.1
FREQUENCY_ROWS = 10_000
"""So many rows say how rare words are in captions."""


class Scorer:
    """Scores by a reward of the registry, which evaluation and training share.

    Args:
        name: of the reward.
        options: its parameters, but for `read`.

    Raises:
        ValueError: there is no such metric or parameter.
    """

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        known = metrics.metric(name)
        self.needs, self.gold_is_full, self.columns = known.needs, known.gold_is_full, known.columns
        self.name, self.options = name, options
        self._frequencies: dict[str, DocumentFrequencies] = {}
        self.strict = registry.make(name, **options, read="strict")
        self.tolerant = registry.make(name, **options, read="tolerant")

    def score(self, sample: Sample, completion: str, prompt: PromptStyle) -> Score:
        """Strict and tolerant score of one completion; `value` is the strict one. Graded where the metric is.

        Strict reads the answer from the format that the prompt asks for, tolerant from any text.
        """
        row = reward_row(sample, prompt)
        strict, tolerant = self.strict(completion, **row), self.tolerant(completion, **row)
        best = max(strict.value, tolerant.value)
        well_formed = float(_well_formed(completion, row["template"]))
        shown = strict if strict.extracted else tolerant
        parts = {"strict": strict.value, "tolerant": best, "format": well_formed}
        return Score(strict.value, parts, shown.extracted, strict.status)

    def reward(self, sample: Sample, completion: str, prompt: PromptStyle) -> Score:
        """0.9 of the metric and 0.1 for the format, both read strictly (arXiv 2507.05386); of a plain answer, which has
        no format, the metric alone."""
        row = reward_row(sample, prompt)
        answer = self.strict(completion, **row)
        if row["template"] == "plain":
            return replace(answer, parts={"accuracy": answer.value})
        well_formed = float(_well_formed(completion, row["template"]))
        value = (1 - FORMAT_WEIGHT) * answer.value + FORMAT_WEIGHT * well_formed
        return replace(answer, value=value, parts={"accuracy": answer.value, "format": well_formed})

    def check(self, row: Row, example: Fields) -> None:
        """ValueError if rows like this one do not have what the metric needs, or their answers are none for it."""
        # In place of what `extra` gives: any values do.
        meta: dict[str, Any] = {"width": 1, "height": 1} if example.images else {}
        meta |= self.of_row(row)
        if metrics.DOCUMENT_FREQUENCIES in self.needs:
            meta["document_frequencies"] = DocumentFrequencies(2, {})
        given = {"gold": example.answers, "choices": example.choices, "question": example.question, "meta": meta}
        if problem := metrics.misfit(self.name, given, **self.options):
            raise ValueError(problem)

    def misfit(self, sample: Sample) -> str:
        """Why the metric can't score a sample, or its accepted answers, in one line; empty if it can."""
        return metrics.misfit(self.name, reward_row(sample, "direct"), **self.options)

    def of_row(self, row: Row) -> dict[str, Any]:
        """What the metric reads in a row's columns as they stand, for the sample's `meta`."""
        return {name: row[name] for name in self.columns if name in row}

    def extra(self, index: RowIndex, split: str, pictures: StoredPictures | tuple[()]) -> dict[str, Any]:
        """What the metric needs in a sample's `meta` beyond its row: `document_frequencies` of the split's first
        `FREQUENCY_ROWS` rows; the first picture's `width` and `height`, where boxes are measured on it."""
        if metrics.DOCUMENT_FREQUENCIES in self.needs:
            if split not in self._frequencies:
                places = index.places(split)[:FREQUENCY_ROWS]
                self._frequencies[split] = document_frequencies(index.read_row(place)[1].answers for place in places)
            return {"document_frequencies": self._frequencies[split]}
        if metrics.SIZE in self.needs and self.options.get("coordinates", "same") != "same" and pictures:
            width, height = pictures.sizes()[0]
            return {"width": width, "height": height}
        return {}


def _well_formed(completion: str, template: Template) -> bool:
    return read_answer(completion, "strict", template).status == "ok"
