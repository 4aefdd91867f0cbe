"""A task over data of one's own: `TaskDefinition` → samples, prompts, scores. Rows are read when they are needed."""

from __future__ import annotations

import hashlib
import json
import random
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

from cpt.common.keys import nearest
from cpt.common.stored_pictures import StoredPictures
from cpt.tasks import scoring
from cpt.tasks.base import FormattedTask
from cpt.tasks.definition import FROM_FIELDS, PromptWords, TaskDefinition, fields_of
from cpt.tasks.likelihood import answered_by
from cpt.tasks.prompts import MARK, WordedFormat
from cpt.tasks.row_index import Place, RowIndex
from cpt.tasks.rows import Fields
from cpt.tasks.rows.values import text_of
from cpt.tasks.usual import LIKELIHOOD_WORDS, MAX_TOKENS, forms, usual_metric, usual_words
from cpt.types import RIGHT, PromptStyle, Sample, Split


class DataTask(FormattedTask):
    """See `cpt.types.Task`. Its files are opened when something is asked of them.

    Attributes:
        role: general, where the data have test rows alone; else a stage may train on it.
    """

    family = "data"

    def __init__(self, definition: TaskDefinition) -> None:
        assert definition.data is not None
        self.definition = definition
        self.name, self.about = definition.name, definition.about
        self.index = RowIndex(definition)
        self.role: Literal["stage", "general"] = "stage" if self.index.has_training_rows else "general"
        self.answered_by = definition.answered_by
        self.right_from = definition.right_from or RIGHT
        self.max_tokens: Mapping[PromptStyle, int] = {**MAX_TOKENS, **definition.max_tokens}

    @cached_property
    def metric(self) -> str:  # type: ignore[override]
        """The definition's, or what the rows suggest (`cpt.tasks.usual`)."""
        if self.definition.metric is not None:
            return self.definition.metric
        return usual_metric(self.index.example, self.answered_by)

    @cached_property
    def scorer(self) -> scoring.Scorer:
        """Its metric, ready to score. ValueError if there is no such metric or option, or it does not fit the rows."""
        return scoring.Scorer(self.metric, self.definition.metric_options)

    @cached_property
    def format(self) -> WordedFormat:  # type: ignore[override]
        """Its words."""
        words = self.definition.prompt
        usual = LIKELIHOOD_WORDS if self.answered_by == "likelihood" else usual_words(words)
        return WordedFormat(words, usual, forms(words))

    def open(self) -> None:
        """Look at the rows, so that what is wrong with the definition is found now.

        Raises:
            ValueError: see `RowIndex`; or a template names a column that there is not, or that of the answer; or the
                metric does not fit the rows.
        """
        self.index.read()
        self._check_words(self.definition.prompt)
        if answered_by(self) == "generation":
            # Test rows are what it scores; training rows may have answers to imitate in other styles (CoIN-ASD).
            self.scorer.check(*self.index.read_row(self.index.of("test")[0]))

    def _check_words(self, words: PromptWords) -> None:
        hidden = self.index.hidden_columns
        known = list(dict.fromkeys([*FROM_FIELDS, *(name for name in self.index.columns if name not in hidden)]))
        for prompt, text in self.format.text.items():
            for name in fields_of(text):
                if name in hidden and name not in FROM_FIELDS:
                    raise ValueError(f"prompt.{prompt}: {{{name}}} would put the answer into the prompt; leave it out")
                if name not in known:
                    raise ValueError(f"prompt.{prompt}: there is no column {name!r}{nearest(name, known)}")

    def size(self, split: Split) -> int:
        """Usable rows of a split."""
        if split == "base" or (split == "train" and not self.index.has_training_rows):
            return 0
        return len(self.index.of(split))

    def samples(self, split: Split, n: int, seed: int = 0) -> list[Sample]:
        """The first `n` rows of a split in an order that the seed decides; pictures are read when they are looked at.

        Raises:
            ValueError: there are not as many rows, or they can't be read.
        """
        return [self.sample(split, place) for place in self._places(split, n, seed)]

    def sample(self, split: Split, place: Place) -> Sample:
        """The sample that one row makes."""
        row, fields = self.index.read_row(place)
        name = f"{self.name}/{split}/{self.index.name_of(place, fields)}"
        fields = self._shuffled(fields, name) if self.definition.shuffle_options else fields
        fields = self._replaced(fields)
        question, options, images = _placed(fields)
        columns = {field: text_of(row.get(field)) for field in self.index.words_columns}
        columns |= {"question": question, "options": options}
        meta: dict[str, Any] = {
            "columns": columns,
            "template": self.format.templates(),
            "target": _commonest(fields.answers),
            "where": self.index.where(place),
        }
        if fields.choices:
            meta["choices"] = list(fields.choices)
        if fields.system:
            meta["system"] = fields.system
        if group := self.index.group_of(place, row):
            meta["group"] = group
        pictures = self.index.pictures(images, place, f"sample {name}")
        if self.answered_by == "generation":
            meta |= self.scorer.of_row(row) | self.scorer.extra(self.index, split, pictures)
        asked = " ".join(part for part in (MARK.sub("", question).strip(), options) if part)
        return Sample(name, self.name, asked, pictures, fields.answers, fields.reasoning, meta)

    def fingerprint(self, split: Split, n: int, seed: int) -> str:
        """See `cpt.tasks.fingerprint`: of what the definition says, and of what stands in the rows and picture files.

        Rows are read anew in each process, one at a time, and pictures are not decoded.
        """
        found = hashlib.blake2b(digest_size=16)
        content = self.definition.content() | {
            "metric": self.metric,
            "words": self.format.text,
            "form": self.format.form,
        }
        further = ("group", *(self.scorer.columns if self.answered_by == "generation" else ()))
        found.update(json.dumps(content, sort_keys=True).encode())
        for place in self._places(split, n, seed):
            sample = self.sample(split, place)
            said = [sample.id, sample.gold, sample.reasoning, sample.meta["columns"], sample.meta.get("choices", [])]
            # How rare words are is told by rows that are not among these.
            said += [sample.meta.get("system", ""), str(sample.meta.get("document_frequencies", ""))]
            said += [sample.meta.get(name) for name in further]
            found.update(json.dumps(said, sort_keys=True, default=str).encode())
            if isinstance(sample.images, StoredPictures):
                found.update(sample.images.digest())
        return found.hexdigest()

    def _places(self, split: Split, n: int, seed: int) -> list[Place]:
        if split == "base":
            raise ValueError(f"task {self.name} has no split base; it has train and test")
        if n < 1:
            raise ValueError(f"task {self.name}: the number of samples must be at least 1, got {n}")
        rows = self.index.of(split)
        if n > len(rows):
            raise ValueError(f"task {self.name}: {n} samples of split {split} are asked for, and it has {len(rows)}")
        if self.definition.seed is not None:
            seed = self.definition.seed
        order = list(range(len(rows)))
        random.Random(f"{split}/{seed}").shuffle(order)
        return [rows[number] for number in order[:n]]

    def _replaced(self, fields: Fields) -> Fields:
        """With what `prompt.leave_out` says of questions, and `prompt.replace` of questions and options."""
        words = self.definition.prompt
        alone = [(text, "") for text in words.leave_out or ()]
        question = _substituted(fields.question, [*words.replace, *alone])
        return replace(fields, question=question, choices=tuple(_substituted(o, words.replace) for o in fields.choices))

    def _shuffled(self, fields: Fields, name: str) -> Fields:
        """With its options in an order that the sample's name decides."""
        order = list(range(len(fields.choices)))
        random.Random(name).shuffle(order)
        letters = string.ascii_uppercase
        moved = {letters[old]: letters[new] for new, old in enumerate(order)}
        return Fields(
            fields.question,
            tuple(moved[answer] for answer in fields.answers),
            fields.images,
            tuple(fields.choices[old] for old in order),
            fields.reasoning,
            fields.system,
            fields.id,
        )


def _commonest(answers: Sequence[str]) -> str:
    """Of several answers that are as common the first; "" where there is none."""
    if len(answers) < 2:
        return answers[0] if answers else ""
    return Counter(answers).most_common(1)[0][0]


def _placed(fields: Fields) -> tuple[str, str, tuple[Any, ...]]:
    """Question, lettered options and pictures, in the order of their marks; a numbered mark marks its picture once."""
    options = "\n".join(
        f"{letter}. {text}" for letter, text in zip(string.ascii_uppercase, fields.choices, strict=False)
    )
    if not fields.images:
        return fields.question, options, ()  # a text may have such words of its own
    order: list[int] = []

    def mark(found: Any) -> str:
        number = int(found[1]) - 1 if found[1] else len(order)
        if number in order:
            return f"image {number + 1}"
        order.append(number)
        return "<image>"

    question, options = MARK.sub(mark, fields.question), MARK.sub(mark, options)
    if not order:
        return question, options, fields.images
    if sorted(order) != list(range(len(fields.images))):
        raise ValueError(f"{len(order)} pictures are marked in the question, and the row has {len(fields.images)}")
    return question, options, tuple(fields.images[number] for number in order)


def _substituted(text: str, pairs: Sequence[tuple[str, str]]) -> str:
    for old, new in pairs:
        text = text.replace(old, new)
    return text.strip() if pairs else text
