"""What a YAML entry may say of a task: where its rows are, how they are asked, and what an answer is worth.

    name: invoices
    data: {path: invoices.csv, images: scans, columns: {question: what, answer: total, images: file}}
    prompt: {direct: "{question} Answer with the number alone."}
    metric: number

Everything but `name` and `data` has a default that is found by looking at the rows (`cpt.tasks.data_task`).
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from cpt.common.strict import Strict
from cpt.types import AnsweredBy, PromptStyle
from rewards.templates import Template

TaskName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", max_length=64)]
Text = Annotated[str, Field(min_length=1, max_length=4096)]
Tokens = Annotated[int, Field(gt=0, le=1_000_000)]
Names = Annotated[list[Text], Field(min_length=1, max_length=64)]
Replacement = Annotated[tuple[Text, Annotated[str, Field(max_length=4096)]], Field(strict=False)]
Scalar = bool | int | float | str
Shape = Literal["auto", "columns", "llava", "sharegpt", "easyr1", "prompt-completion"]
_COMMIT = re.compile(r"[0-9a-f]{40}")
AnswerIn = Literal["plain", "tags", "boxed"]
_TEMPLATES: Mapping[tuple[PromptStyle, AnswerIn], Template] = {
    ("direct", "plain"): "plain", ("direct", "tags"): "direct", ("direct", "boxed"): "boxed",
    ("think", "plain"): "think_plain", ("think", "tags"): "think", ("think", "boxed"): "think_boxed",
}  # fmt: skip


class Columns(Strict):
    """Which columns of a row are what. Those left out go by their usual names (`cpt.tasks.rows.columns`).

    `answer`: of one column its text, or its list of accepted answers; several columns give one accepted answer each.
    `choices`: a column with the list of options, or the columns of the options in order; `answer` is then the index of
    the right one from 0, its letter or its text. `images`: a column with a picture or a list of pictures, or several.
    `id` names a row in records; without it a row is called by its number. `group` is what benchmarks take means over
    (subject, category) or count together (MME: the picture); the values of several columns are joined by a slash.
    """

    question: Text | None = None
    answer: Text | Names | None = None
    choices: Text | Names | None = None
    images: Text | Names | None = None
    reasoning: Text | None = None
    system: Text | None = None
    id: Text | None = None
    group: Text | Names | None = None


class AnswersFrom(Strict):
    """Accepted answers of test rows that lie in a JSON file of their own, as TextVQA and COCO captions have them.

    All objects of a list whose `key` is that of the row give it their answers, in place of its own column `answer`.

    Attributes:
        file: from `root`.
        list: the file's key that has the list; the file is the list if left out.
        key: of the list's objects.
        row: the rows' column that says the same; a row's number, from 1, if left out.
        answer: of the list's objects: a text, or a list of texts.
    """

    file: Text
    list: Text | None = None
    key: Text
    row: Text | None = None
    answer: Text = "answer"


class Data(Strict):
    """Where a task's rows are.

    Exactly one of `path` (a file, a folder of them, or a pattern), `hub` (an id on the Hugging Face Hub) and `mix`
    (several data, one after another). `train` and `test` are files or patterns below `path` (or beside the definition,
    without `path`), or names of splits where the data have such: on the Hub, in what `datasets` saved, files called
    train… and test…, and subfolders. Where neither is written, train and test (else validation) are those by name.
    Without `test` a share of the rows is cut off by hash: rows with the same pictures, or the same question where there
    are none, go together.

    Attributes:
        root: what relative paths start from; the folder of the file that says this where it is left out. No part of
            what the data are.
        images: the folder, from `root`, that pictures' paths in rows start from; that of the rows' file if left out.
            Paths in rows may be absolute, or lead out of it: what they name is opened as a picture and as nothing else.
        padding: square: pictures are shown padded to a square, as models do whose boxes are measured on that.
        answers_from: a file that has the test rows' answers.
        rows: how a row is laid out.
        config, revision: of data on the Hub; a revision is needed there, the full id of a commit.
        split_column: a column that says which split a row belongs to, for data whose splits share a file; `train` and
            `test` are then values of it.
        leave_out: rows that are not used, by id, or as messages call them: `train.jsonl, line 17`.
        drop_at_most: share of a split's rows that may be left out because they can't be used; with more it is an error.
    """

    path: Text | None = None
    hub: Text | None = None
    mix: Annotated[list[Data], Field(min_length=1, max_length=64)] | None = None
    config: Text | None = None
    revision: Text | None = None
    train: Text | Names | None = None
    test: Text | Names | None = None
    split_column: Text | None = None
    root: Text | None = None
    images: Text | None = None
    padding: Literal["square"] | None = None
    answers_from: AnswersFrom | None = None
    rows: Shape = "auto"
    columns: Columns = Columns()
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    leave_out: Annotated[list[int | str], Field(max_length=10_000)] = Field(default_factory=list)
    drop_at_most: Annotated[float, Field(ge=0, le=1)] = 0.01

    @property
    def parts(self) -> list[Data]:
        """Those of a mix, or it alone."""
        return self.mix or [self]

    @model_validator(mode="after")
    def _one_source(self) -> Data:
        given = [name for name in ("path", "hub", "mix") if getattr(self, name) is not None]
        files = self.train is not None or self.test is not None
        if len(given) > 1 or (not given and not files):
            raise ValueError("set one of path (a file or a folder), hub (an id on the Hub) and mix (a list of data)")
        if self.answers_from is not None and self.test is None:
            raise ValueError("answers_from is for test rows: name them under test, or leave it out")
        if self.hub is not None and self.revision is None:
            raise ValueError("needs a revision: the full id of a commit, so that the data stay the same")
        if self.revision is not None and not _COMMIT.fullmatch(self.revision):
            raise ValueError(
                f"revision {self.revision!r} is not the full id of a commit (40 digits, in its history on the Hub); "
                "branches and tags move"
            )
        if self.hub is None and (self.config is not None or self.revision is not None):
            raise ValueError("config and revision are for data on the Hub: set hub, or leave them out")
        return self


class PromptWords(Strict):
    """The words around a question.

    `direct` and `think` are texts with columns' names in braces: `{question}`, `{options}` (the lettered choices; a
    line of its own is left out in rows without any), `{form}` (what is usually said of the answer's form, by whether
    the row has choices) and any other column of the row but that of the answer; a brace that is meant is written twice.
    `answer_in` is where the answer is read and, under `policy` targets, put: plain (all that is said), tags
    (`<answer> </answer>`) or boxed (`\\boxed{}`); under `think` after `<think> </think>`. `leave_out` are texts that
    are taken out of questions, such as the words for the answer's form that published questions end with; `replace` are
    pairs of texts: in questions and options the first gives way to the second, one pair after another.
    """

    system: Text | None = None
    direct: Text | None = None
    think: Text | None = None
    leave_out: Names | None = None
    replace: Annotated[list[Replacement], Field(max_length=64)] = Field(default_factory=list)
    answer_in: Annotated[
        dict[PromptStyle, AnswerIn], BeforeValidator(lambda v: {"direct": v, "think": v} if isinstance(v, str) else v)
    ] = Field(default_factory=dict)

    def template(self, prompt: PromptStyle) -> Template:
        """How `rewards.extract.read_answer` reads answers to this prompt."""
        return _TEMPLATES[prompt, self.place(prompt)]

    def place(self, prompt: PromptStyle) -> AnswerIn:
        """Where the answer stands."""
        return self.answer_in.get(prompt, "plain" if prompt == "direct" else "tags")

    @model_validator(mode="after")
    def _fields(self) -> PromptWords:
        for words in (self.direct, self.think):
            for name in () if words is None else fields_of(words):
                if not name.replace("_", "a").replace("-", "a").replace(" ", "a").isalnum():
                    raise ValueError(f"{{{name}}} is no column's name; a brace that is meant is written twice: {{{{")
        return self


FROM_FIELDS = ("question", "options", "form")
"""What a text with braces may name beside the row's own columns."""


def fields_of(words: str) -> Iterator[str]:
    """The columns that a text with braces names. ValueError if a brace is left open."""
    try:
        parts = list(string.Formatter().parse(words))
    except ValueError as error:
        raise ValueError(f"{error}; a brace that is meant is written twice") from None
    for _, name, spec, conversion in parts:
        if spec or conversion:
            raise ValueError(f"{{{name}}} is written with : or ! in its braces; a column's name stands there alone")
        if name is not None:
            yield name


def _as_path(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


def _for_each_style(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return {"direct": value, "think": value}
    if not isinstance(value, Mapping):
        raise ValueError("must be a whole number, or one for each style, as in {direct: 64, think: 1024}")
    return value


class TaskDefinition(Strict):
    """A task: source, format, metric. Its default reward is 0.9 of the metric and 0.1 for the format.

    Attributes:
        data: rows; a bare text is their `path`.
        metric: the name of a reward (`cpt rewards list`). By default `choice` where there are choices, `vqa` where rows
            have ten answers, else `exact`.
        metric_options: the reward's parameters.
        right_from: the score from which an answer counts as right, where samples are counted.
        max_tokens: of a completion, by style of prompt; a bare number is for both.
        filter: which rows are used: column → the value, or one of the values, that it has to have. `images: true` are
            rows with a picture, `images: false` those without.
        answered_by: generation, or likelihood: the model is not asked to write, options are scored by its
            log-probabilities (for text without choices: the text itself).
        seed: of the order in which rows are taken; by default training rows are taken by the run's seed.
        shuffle_options: whether options are put into an order of their own for each row, by its id.
    """

    name: TaskName
    about: Annotated[str, Field(max_length=4096)] = ""
    data: Annotated[Data | None, BeforeValidator(_as_path)] = None
    prompt: PromptWords = PromptWords()
    metric: Text | None = None
    metric_options: dict[str, Scalar | list[Scalar]] = Field(default_factory=dict)
    right_from: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Annotated[dict[PromptStyle, Tokens], BeforeValidator(_for_each_style)] = Field(default_factory=dict)
    filter: dict[str, Scalar | list[Scalar]] = Field(default_factory=dict)
    answered_by: AnsweredBy = "generation"
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] | None = None
    shuffle_options: bool = False

    @property
    def is_definition(self) -> bool:
        """Whether it says where its rows are; else it only names a task that there is."""
        return self.data is not None

    @model_validator(mode="after")
    def _defines_or_names(self) -> TaskDefinition:
        if self.data is None and "data" in self.model_fields_set:
            raise ValueError("data is empty: say where its rows are, as in `data: rows.jsonl`, or leave it out")
        if self.data is None:
            said = [name for name in _OF_A_DEFINITION if name in self.model_fields_set]
            if said:
                raise ValueError(f"{said[0]} belongs to a task's definition, which needs data: say where its rows are")
        return self

    def content(self) -> dict[str, Any]:
        """What the task is, wherever its files lie: what changes a sample, a prompt or a score."""
        content: dict[str, Any] = TaskDefinition.model_validate(
            {name: getattr(self, name) for name in TaskDefinition.model_fields}
        ).model_dump(mode="json")
        del content["about"]
        kept: dict[str, Any] = without_places(content)
        return kept


_OF_A_DEFINITION = (
    "about", "prompt", "metric", "metric_options", "right_from", "max_tokens", "filter", "answered_by", "seed",
    "shuffle_options",
)  # fmt: skip


def without_places(content: Any, within: str = "") -> Any:
    """Plain data without what says where on this machine a task's files lie (`data.root`)."""
    if isinstance(content, dict):
        kept = content.items() if within not in ("data", "mix") else [(k, v) for k, v in content.items() if k != "root"]
        return {key: without_places(value, key) for key, value in kept}
    return [without_places(value, within) for value in content] if isinstance(content, list) else content
