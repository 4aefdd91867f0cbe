"""The general benchmarks that come with cpt, each on files in its published form: what is asked and rewarded.

A new task is a row of `CASES`. What is known of the real files and what is not stands in the tasks' `about`.
"""

from __future__ import annotations

import functools
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import cpt.tasks.registry
from cpt.evaluate.aggregates import measures
from cpt.recipe import load_recipe
from cpt.recipe.task_files import read_task_file, shipped_task_files
from cpt.tasks import declare, get_task, open_task
from cpt.tasks.chat import checked_prompt
from cpt.tasks.definition import Data, TaskDefinition
from cpt.tasks.likelihood import answered_by, has_prompt, is_right, options_of, text_of
from cpt.types import Record, Sample

FILES = {name: file for name, file in shipped_task_files().items() if name.startswith("general/")}
LETTER = "Answer with the option's letter from the given choices directly."
WORD = "Answer the question using a single word or phrase."
TAGS = "First think about it inside <think> </think>, then give the answer inside <answer> </answer>."
LETTER_TAGS = TAGS.replace("the answer", "the option's letter")
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def picture(shade: int = 0) -> dict[str, Any]:
    content = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(content, "PNG")
    return {"bytes": content.getvalue(), "path": None}


def parquet(*rows: Mapping[str, Any], pictures: Sequence[str] = ()) -> pa.Table:
    """A table of these rows, whose columns of pictures are bytes and path, as `datasets` writes them."""
    columns = {name: pa.array([row[name] for row in rows], PICTURE if name in pictures else None) for name in rows[0]}
    return pa.table(columns)


def mmmu(number: int, question: str, options: Sequence[str], answer: str, *shown: int) -> dict[str, Any]:
    return {
        "id": f"validation_Art_Theory_{number}",
        "question": question,
        "options": str(list(options)),
        "explanation": "",
        **{f"image_{n}": picture(n) if n in shown else None for n in range(1, 8)},
        "img_type": "['Painting']",
        "answer": answer,
        "topic_difficulty": "Easy",
        "question_type": "multiple-choice" if options else "open",
        "subfield": "Painting",
    }


MMMU = parquet(
    mmmu(1, "Is <image 2> by him? It hangs with <image 1>.", ["yes, <image 4>", "no"], "B", 1, 2, 3, 4),
    mmmu(2, "How many in <image 1>?", [], "['12', 'twelve']", 1),
    pictures=[f"image_{n}" for n in range(1, 8)],
)
MMLU_PRO = parquet(
    {
        "question_id": 70,
        "question": "What is owed?",
        "options": [f"{n} dollars" for n in range(10)],
        "answer": "J",
        "answer_index": 9,
        "cot_content": "",
        "category": "law",
        "src": "ori_mmlu",
    }
)
POPE = parquet(
    *(
        {
            "id": str(number),
            "question_id": str(number),
            "question": "Is there a dog in the image?",
            "answer": answer,
            "image_source": f"COCO_val2014_{number}",
            "image": picture(number),
            "category": category,
        }
        for number, (answer, category) in enumerate([("no", "adversarial"), ("yes", "popular"), ("yes", "random")])
    ),
    pictures=["image"],
)
MMSTAR = parquet(
    {
        "index": 0,
        "question": "Which is it?\nOptions: A: red, B: blue, C: green, D: grey",
        "image": picture(),
        "answer": "B",
        "category": "coarse perception",
        "l2_category": "image emotion",
        "meta_info": {"source": "MMBench", "split": "val", "image_path": "images/0.jpg"},
    },
    pictures=["image"],
)
MME = parquet(
    *(
        {
            "question_id": "count/1.png",
            "image": picture(),
            "question": f"{question} Please answer yes or no.",
            "answer": answer,
            "category": "count",
        }
        for question, answer in (("Are there two dogs?", "Yes"), ("Are there three dogs?", "No"))
    ),
    pictures=["image"],
)
HELLASWAG = parquet(
    {
        "ind": 4,
        "activity_label": "Baking",
        "ctx_a": "[header] How to bake [title] Take flour. [step] Heat it.",
        "ctx_b": "then",
        "ctx": "[header] How to bake [title] Take flour. [step] Heat it. then",
        "endings": ["run.", "[substeps] stir it.", "swim.", "sleep."],
        "source_id": "wikihow~1",
        "split": "val",
        "split_type": "indomain",
        "label": "1",
    }
)


def arc(labels: Sequence[str], answer: str) -> pa.Table:
    choices = {"text": ["ice", "steam", "rain", "fog"], "label": list(labels)}
    return parquet({"id": "Mercury_1", "question": "What is hot?", "choices": choices, "answerKey": answer})


NONE = dict.fromkeys(("num_words", "relation", "keywords", "language", "prompt_to_repeat"))
IFEVAL = [
    {
        "key": 1000,
        "prompt": "Write of ice and steam. Use at least 3 words and no commas.",
        "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
        "kwargs": [NONE, {**NONE, "num_words": 3, "relation": "at least"}],
    },
    *({"key": n, "prompt": "Go.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]} for n in range(9)),
    {
        "key": 1001,
        "prompt": "Answer in German.",
        "instruction_id_list": ["language:response_language"],
        "kwargs": [{**NONE, "language": "de"}],
    },
]


@dataclass(frozen=True)
class Case:
    """One task.

    Attributes:
        content: of the folder that `root` names.
        sample: the beginning of the question of the sample that is looked at.
        direct, thinks: the prompts, with a picture in the place of each 🖼.
        right, wrong: answers worth 1 and 0; where options are scored, the place of the right one.
        group: of the sample.
        measures: what its benchmark reports.
    """

    content: Mapping[str, Any]
    direct: str
    thinks: str
    right: str | int
    wrong: str = ""
    sample: str = ""
    group: str = ""
    measures: Sequence[str] = ()
    gold: tuple[str, ...] = ()


OPEN = "How many in 🖼?"
DOG = "🖼Is there a dog in the image?"
DATA = "data/test-00000-of-00001.parquet"
YES_RATIO = ("accuracy", "precision", "recall", "F1", "yes ratio")
TEN = "\n".join(f"{chr(65 + n)}. {n} dollars" for n in range(10))
PRO = "The following is a multiple choice question about law."
FOLLOWED = "Write of ice and steam. Use at least 3 words and no commas."
CASES: dict[str, dict[str, Case]] = {
    "general/mmmu": {
        "mmmu": Case(
            {"data/validation-00000-of-00001.parquet": MMMU},
            f"Is 🖼 by him? It hangs with 🖼.\nA. yes, 🖼\nB. no\n\n{LETTER}",
            f"Is 🖼 by him? It hangs with 🖼.\nA. yes, 🖼\nB. no\n\n{LETTER_TAGS}",
            right="(B)",
            wrong="A",
            sample="Is",
            group="validation_Art_Theory_1",
            measures=["mean of groups"],
            gold=("B",),
        )
    },
    "general/mmlu-pro": {
        "mmlu-pro": Case(
            {DATA: MMLU_PRO},
            f"{PRO}\n\nWhat is owed?\n{TEN}\n{LETTER}",
            f'{PRO} Think step by step inside <think> </think> and then finish your answer with "the answer is (X)" '
            f"where X is the correct letter choice.\n\nWhat is owed?\n{TEN}",
            right="The answer is (J).",
            wrong="The answer is (I).",
            group="law",
            measures=["mean of groups"],
            gold=("J",),
        )
    },
    "general/pope": {
        name: Case(
            {DATA: POPE}, f"{DOG}\n{WORD}", f"{DOG}\n{TAGS}", right=right, wrong=wrong, measures=YES_RATIO, gold=(gold,)
        )
        for name, gold, right, wrong in (
            ("pope-random", "yes", "Yes", "No"),
            ("pope-popular", "yes", "Yes, there is.", "There is not."),
            ("pope-adversarial", "no", "No, there is none.", "Yes"),
        )
    },
    "general/mmstar": {
        "mmstar": Case(
            {"mmstar.parquet": MMSTAR},
            f"🖼Which is it?\nOptions: A: red, B: blue, C: green, D: grey\n{LETTER.removesuffix('.')}",
            f"🖼Which is it?\nOptions: A: red, B: blue, C: green, D: grey\n{LETTER_TAGS}",
            right="B",
            wrong="C",
            group="image emotion",
            measures=["mean of groups"],
            gold=("B",),
        )
    },
    "general/mme": {
        "mme": Case(
            {DATA: MME},
            "🖼Are there two dogs? Please answer yes or no.",
            f"🖼Are there two dogs? Please answer yes or no.\n{TAGS}",
            right="Yes, two.",
            wrong="no",
            sample="Are there two",
            group="count/count/1.png",
            measures=["acc", "acc+", "perception", "sum"],
            gold=("Yes",),
        )
    },
    "general/hellaswag": {
        "hellaswag": Case(
            {"data/validation-00000-of-00001.parquet": HELLASWAG},
            "Baking: How to bake. Take flour. Heat it. then",
            "Baking: How to bake. Take flour. Heat it. then",
            right=1,
            gold=("B",),
        )
    },
    "general/arc": {
        name: Case(
            {f"{folder}/test-00000-of-00001.parquet": arc(labels, answer)},
            "Question: What is hot?\nAnswer:",
            "Question: What is hot?\nAnswer:",
            right=1,
            gold=("B",),
        )
        for name, folder, labels, answer in (
            ("arc-easy", "ARC-Easy", "1234", "2"),
            ("arc-challenge", "ARC-Challenge", "ABCD", "B"),
        )
    },
    "general/ifeval": {
        "ifeval": Case(
            {"ifeval_input_data.jsonl": IFEVAL},
            FOLLOWED,
            f"{FOLLOWED}\n\nFirst think about it inside <think> </think>, then give your response.",
            right="Ice melts to water.",
            wrong="Ice, steam",
            sample="Write",
            measures=["prompts, strict", "instructions, strict", "prompts, loose", "instructions, loose"],
            gold=("punctuation:no_comma", "length_constraints:number_words"),
        )
    },
    "general/perplexity": {
        "perplexity": Case(
            {"mine.txt": "Ice melts.\n\n"},
            "",
            "",
            right=0,
            measures=["perplexity", "word perplexity", "bits per byte"],
            gold=("Ice melts.",),
        )
    },
}
TABLE = [(file, name) for file, cases in CASES.items() for name in cases]


@pytest.fixture(autouse=True)
def nothing_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpt.tasks.registry, "_declared", {})


@functools.cache
def definitions(file: str, root: Path) -> dict[str, TaskDefinition]:
    return {one.name: one for one in read_task_file(FILES[file], str(root))}


def write(root: Path, content: Mapping[str, Any]) -> None:
    for name, data in content.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(data, str):
            file.write_text(data, encoding="utf-8")
        elif isinstance(data, list):
            file.write_text("".join(json.dumps(row) + "\n" for row in data), encoding="utf-8")
        else:
            pq.write_table(data, file)


def opened(name: str, root: Path, content: Mapping[str, Any] | None = None) -> Any:
    """The task on the files in a folder, after they are written there."""
    (file,) = (file for file, cases in CASES.items() if name in cases)
    write(root, CASES[file][name].content if content is None else content)
    declare([definitions(file, root)[name]])
    return open_task(name)


def looked_at(task: Any, case: Case) -> Sample:
    samples = task.samples("test", task.size("test"))
    found: Sample = next(sample for sample in samples if sample.question.startswith(case.sample))
    return found


def text_of_chat(chat: Sequence[dict[str, Any]]) -> str:
    """All that is said, a 🖼 for each picture; blocks are stripped, so a space or a line break may be lost there."""
    return "".join(block.get("text", "🖼") for turn in chat for block in turn["content"])


def squeezed(text: str) -> str:
    return re.sub(r"\s*🖼\s*", "🖼", text)


def completed(answer: str, task: Any, prompt: str) -> str:
    """An answer in the format that the prompt asks for."""
    said: str = task.format.answered(answer, prompt, "I see." if prompt == "think" else "")
    return said


def test_every_task_of_every_file_is_here(tmp_path: Path):
    assert {file: list(definitions(file, tmp_path)) for file in FILES} == {
        file: list(CASES[file]) for file in sorted(CASES)
    }


@pytest.mark.parametrize(("file", "name"), TABLE, ids=[name for _, name in TABLE])
def test_what_is_asked(file: str, name: str, tmp_path: Path):
    case = CASES[file][name]
    task = opened(name, tmp_path)
    sample = looked_at(task, case)
    assert task.role == "general" and get_task(name) is task
    assert sample.gold == case.gold
    assert sample.meta.get("group", "") == case.group
    assert len(list(sample.images)) == case.direct.count("🖼")
    if not has_prompt(task):
        return
    for prompt, words in (("direct", case.direct), ("think", case.thinks)):
        assert squeezed(text_of_chat(checked_prompt(task, sample, prompt))) == squeezed(words)


@pytest.mark.parametrize(("file", "name"), TABLE, ids=[name for _, name in TABLE])
def test_what_answers_are_worth(file: str, name: str, tmp_path: Path):
    case = CASES[file][name]
    task = opened(name, tmp_path)
    sample = looked_at(task, case)
    if answered_by(task) == "likelihood":
        assert task.metric in ("likelihood", "likelihood-normalised", "token-probability")
        if has_prompt(task):
            options = options_of(sample)
            assert [is_right(place, options, sample.gold) for place in range(4)] == [n == case.right for n in range(4)]
        else:
            assert text_of(sample) == sample.gold[0]
        return
    assert isinstance(case.right, str)
    for prompt in ("direct", "think"):
        right, wrong = (task.score(sample, completed(said, task, prompt), prompt) for said in (case.right, case.wrong))
        assert right.parts == {"strict": 1.0, "tolerant": 1.0, "format": 1.0}
        assert wrong.parts == {"strict": 0.0, "tolerant": 0.0, "format": 1.0}


def records_of(task: Any, said: Callable[[Sample], str]) -> Iterator[Record]:
    for sample in task.samples("test", task.size("test")):
        generated = answered_by(task) == "generation"
        score = task.score(sample, said(sample), "direct") if generated else None
        strict, tolerant = (score.parts["strict"], score.parts["tolerant"]) if score else (0.5, 0.5)
        yield Record(
            *("a", 0, 0, task.name, sample.id, "text", said(sample), "stop", score.extracted if score else ""),
            list(sample.gold),
            strict,
            tolerant,
            3,
            metric=task.metric,
            group=sample.meta.get("group", ""),
        )


@pytest.mark.parametrize(("file", "name"), TABLE, ids=[name for _, name in TABLE])
def test_its_benchmark_s_measures_are_made_from_its_records(file: str, name: str, tmp_path: Path):
    task = opened(name, tmp_path)
    found = measures(list(records_of(task, lambda sample: sample.gold[0])))
    assert [one.name for one in found] == list(CASES[file][name].measures)


ABOUT = re.compile(r"Source: (.+?) Asks: (.+?) Licence: (.+?) Rows: (.+?) Unverified: (.+)")


@pytest.mark.parametrize("file", FILES)
def test_every_task_says_where_it_is_from_and_what_nobody_has_checked(file: str, tmp_path: Path):
    for one in definitions(file, tmp_path).values():
        assert ABOUT.fullmatch(one.about), one.name
        assert one.metric and (one.max_tokens or one.answered_by == "likelihood")
    assert "\n# Where the files are: " in FILES[file].read_text(encoding="utf-8")


def test_the_recipe_of_the_page_loads(tmp_path: Path):
    for folder, names in (("MME", ["mme"]), ("ai2_arc", ["arc-easy"])):
        for name in names:
            opened(name, tmp_path / folder)
    page = (Path(__file__).resolve().parents[2] / "docs" / "general.md").read_text(encoding="utf-8")
    shown = page.partition("<!-- recipe -->\n```\n")[2].partition("```")[0]
    file = tmp_path / "general.yaml"
    file.write_text(shown.replace("root: /data/", f"root: {tmp_path}/").replace("2374", "2"), encoding="utf-8")
    assert [one.name for one in load_recipe(file).general] == ["mme", "arc-easy"]


# ---- one benchmark each


def test_open_questions_of_mmmu_ask_for_a_word_and_have_several_answers(tmp_path: Path):
    task = opened("mmmu", tmp_path)
    (sample,) = (one for one in task.samples("test", 2) if one.question.startswith("How"))
    assert squeezed(text_of_chat(task.messages(sample, "direct"))) == squeezed(f"{OPEN}\n\n{WORD}")
    assert squeezed(text_of_chat(task.messages(sample, "think"))) == squeezed(f"{OPEN}\n\n{TAGS}")
    assert sample.gold == ("12", "twelve")
    worth = {said: task.score(sample, said, "direct").value for said in ("There are 12.0 of them", "twelve", "13")}
    assert worth == {"There are 12.0 of them": 1.0, "twelve": 1.0, "13": 0.0}


def test_pictures_of_mmmu_stand_in_the_order_of_their_marks(tmp_path: Path):
    task = opened("mmmu", tmp_path)
    (sample,) = (one for one in task.samples("test", 2) if one.question.startswith("Is"))
    assert [image.getpixel((0, 0))[0] for image in sample.images] == [2, 1, 4]  # the third is marked nowhere


def test_the_endings_of_hellaswag_are_scored_without_marks(tmp_path: Path):
    task = opened("hellaswag", tmp_path)
    (sample,) = task.samples("test", 1)
    assert options_of(sample) == ("run.", "stir it.", "swim.", "sleep.")


def test_rows_of_pope_go_by_their_category(tmp_path: Path):
    assert [opened(name, tmp_path).size("test") for name in CASES["general/pope"]] == [1, 1, 1]


def test_rows_of_ifeval_for_another_language_are_left_out_and_counted(tmp_path: Path):
    task = opened("ifeval", tmp_path)
    assert task.size("test") == 10
    (out,) = task.index.unusable
    assert (out.kind, "needs a language detector" in out.reason) == ("gold", True)


def test_arguments_of_ifeval_may_be_called_nothing_else(tmp_path: Path):
    rows = [{"arguments" if key == "kwargs" else key: value for key, value in row.items()} for row in IFEVAL]
    with pytest.raises(
        ValueError, match=r"no usable row .* 2 instructions and 0 kwargs: the row needs a column kwargs"
    ):
        opened("ifeval", tmp_path, {"ifeval_input_data.jsonl": rows})


def test_a_row_of_ifeval_whose_arguments_do_not_fit_is_counted(tmp_path: Path):
    rows = json.loads(json.dumps(IFEVAL).replace('"num_words": 3', '"num_words": "3"'))
    one = definitions("general/ifeval", tmp_path)["ifeval"]
    write(tmp_path, {"ifeval_input_data.jsonl": rows})
    assert one.data is not None
    declare([one.model_copy(update={"data": one.data.model_copy(update={"drop_at_most": 0.5})})])
    assert {out.reason for out in open_task("ifeval").index.unusable} == {
        "instruction length_constraints:number_words: num_words is '3', which is not of its kind",
        "instruction language:response_language needs a language detector, and there is none",
    }


def test_instructions_arguments_are_part_of_what_the_data_are(tmp_path: Path):
    digest = opened("ifeval", tmp_path / "a").fingerprint("test", 10, 0)
    assert opened("ifeval", tmp_path / "b").fingerprint("test", 10, 0) == digest
    rows = json.loads(json.dumps(IFEVAL).replace('"num_words": 3', '"num_words": 4'))
    assert opened("ifeval", tmp_path / "c", {"ifeval_input_data.jsonl": rows}).fingerprint("test", 10, 0) != digest


def test_instructions_in_parquet_are_the_same(tmp_path: Path):
    """Every row's arguments then have all keys, and numbers may be floats."""
    rows = [{**row, "kwargs": [{**NONE, **own} for own in row["kwargs"]]} for row in IFEVAL]
    (tmp_path / "x.parquet").parent.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    one = definitions("general/ifeval", tmp_path)["ifeval"]
    assert one.data is not None
    declare([one.model_copy(update={"data": one.data.model_copy(update={"test": "x.parquet"})})])
    task = open_task("ifeval")
    sample = looked_at(task, CASES["general/ifeval"]["ifeval"])
    assert [task.score(sample, said, "direct").value for said in ("Ice melts to water.", "Ice melts")] == [1, 0]


def test_usual_words_go_by_whether_a_row_has_options(tmp_path: Path):
    rows = [{"question": "Which?", "options": ["a", "b"], "answer": "B"}, {"question": "Who?", "answer": "Ann"}]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    declare([TaskDefinition(name="mixed", data=Data(root=str(tmp_path), test="x.jsonl"))])
    task = open_task("mixed")
    asked = {text_of_chat(task.messages(sample, "direct")) for sample in task.samples("test", 2)}
    assert asked == {f"Which?\nA. a\nB. b\n{LETTER}", f"Who?\n{WORD}"}


def test_a_group_that_is_no_column_is_named(tmp_path: Path):
    rows = parquet({"question": "What?", "options": ["a", "b"], "answer": "A"})
    with pytest.raises(ValueError, match=r"data\.columns\.(id|group): there is no column"):
        opened("mmlu-pro", tmp_path, {DATA: rows})


def test_each_line_of_a_text_file_is_a_text(tmp_path: Path):
    task = opened("perplexity", tmp_path, {"a.txt": "One.\n\nTwo <image> marks.\n"})
    assert sorted(text_of(sample) for sample in task.samples("test", 2)) == ["One.", "Two <image> marks."]
