"""How rows are read: published schemas, what a person expects of defaults, and what is refused."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any

import pytest

from cpt.common.stored_pictures import StoredPicture
from cpt.tasks.definition import Data
from cpt.tasks.rows import Fields, layout_of


@dataclass(frozen=True)
class Picture(StoredPicture):
    """A picture of a row, as sources hand it over."""

    name: str = "p"

    def read(self) -> bytes:
        return self.name.encode()


def read(row: dict[str, Any], rows: str = "auto", **columns: Any) -> Fields:
    data = Data.model_validate({"path": "x.json", "rows": rows, "columns": columns})
    return layout_of(data, tuple(row), row)(row)


def refused(row: dict[str, Any], rows: str = "auto", **columns: Any) -> str:
    with pytest.raises(ValueError, match=r".") as error:
        read(row, rows, **columns)
    assert "\n" not in str(error.value)
    return str(error.value)


# Columns


def test_usual_names_and_named_columns():
    row = {"question_id": 7, "question": "Q?", "answer": "a", "image": "p.png", "rationale": "because"}
    assert read(row) == Fields("Q?", ("a",), ("p.png",), reasoning="because", id="7")
    row = {"what": "Q?", "total": 3.0, "file": "p.png", "hint": "h"}
    assert read(row, question="what", answer="total", images="file") == Fields("Q?", ("3",), ("p.png",))


def test_lists_of_answers_and_columns_of_answers_all_count():
    assert read({"question": "Q", "answers": ["a", None, "", "b"]}).answers == ("a", "b")
    assert read({"question": "Q", "x": "a", "y": "b"}, answer=["x", "y"]).answers == ("a", "b")
    assert read({"question": "Q", "answer": float("nan")}).answers == ()
    assert read({"question": "Q", "answer": "[1, 2]"}).answers == ("[1, 2]",)  # a list of numbers is one answer
    assert read({"question": "Q", "answer": "['24/7', '3.4']"}).answers == ("24/7", "3.4")  # MMMU's open questions


def test_ten_answers_of_vqa():
    ten = [{"answer": f"a{n}", "answer_confidence": "yes", "answer_id": n} for n in range(10)]
    expected = tuple(f"a{n}" for n in range(10))
    assert read({"question": "Q", "answers": ten}).answers == expected
    columns = {"answer": list(expected), "answer_confidence": ["yes"] * 10}  # as older releases of datasets store them
    assert read({"question": "Q", "answers": columns}).answers == expected
    assert read({"question": "Q", "answers": {"text": ["a", "b"], "answer_start": [0, 4]}}).answers == ("a", "b")


OPTIONS = [("A", "cat"), ("B", "dog"), ("C", "cow")]
CHOICES = [
    {"choices": ["cat", "dog", "cow"], "answer": 2},  # ScienceQA
    {"options": "['cat', 'dog', 'cow']", "answer": "C"},  # MMMU
    {"options": '["cat", "dog", "cow"]', "answer": "cow"},
    {"choices": {"text": ["cat", "dog", "cow"], "label": ["A", "B", "C"]}, "answerKey": "C"},  # ARC
    {"choices": {"text": ["cat", "dog", "cow"], "label": ["1", "2", "3"]}, "answerKey": "3"},  # ARC, some rows
    {"endings": ["cat", "dog", "cow"], "label": "2"},  # HellaSwag
    {"A": "cat", "B": "dog", "C": "cow", "D": None, "answer": "C"},  # MMBench
    {"option_a": "cat", "option_b": "dog", "option_c": "cow", "answer": "(C)"},
    {"options": {"A": "cat", "B": "dog", "C": "cow", "D": None}, "answer": "c"},
    {"choices": [dict(zip(("label", "text"), one, strict=True)) for one in OPTIONS], "answer": "C"},
    {"choices": ["A. cat", "B. dog", "C. cow"], "answer": "C. cow"},
    {"choices": ["(A) cat", "(B) dog", "(C) cow"], "answer": "C"},
    {"choices": ["cat", "dog", "cow"], "answer": 2.0},  # a column with gaps
    {"choices": ["cat", "dog", "cow"], "answer": "Cow"},
]  # fmt: skip


@pytest.mark.parametrize("row", CHOICES, ids=str)
def test_choices_become_lettered(row: dict[str, Any]):
    fields = read({"question": "Q", **row})
    assert fields.choices == ("cat", "dog", "cow")
    assert fields.answers == ("C",)


def test_named_columns_of_choices():
    row = {"question": "Q", "right": "x", "wrong": "y", "answer": "y"}
    fields = read(row, choices=["right", "wrong"])
    assert fields.choices == ("x", "y") and fields.answers == ("B",)


def test_two_columns_a_and_b_are_no_choices():
    assert read({"A": 3, "B": 4, "question": "A + B", "answer": 7}) == Fields("A + B", ("7",))


def test_a_number_is_the_text_of_a_choice_where_choices_are_numbers():
    assert read({"question": "Q", "choices": [2, 4, 6], "answer": 4}).answers == ("B",)
    assert read({"question": "Q", "choices": ["2", "1", "0"], "answer": "1"}).answers == ("B",)
    assert read({"question": "Q", "choices": ["2", "1", "0"], "answer": 0}).answers == ("A",)  # an index


def test_answers_that_are_no_choice_are_refused():
    row = {"question": "Q", "choices": ["a", "b"]}
    assert "neither the letter" in refused({**row, "answer": "c d"})
    assert "neither the letter" in refused({**row, "answer": 2})
    assert "neither the letter" in refused({**row, "answer": -1})
    assert "also the text of option C" in refused({"question": "Q", "choices": ["C", "B", "A"], "answer": "A"})
    assert "choice 2 of 3 is empty" in refused({"question": "Q", "choices": ["a", "", "b"], "answer": "b"})
    assert "27 choices" in refused({"question": "Q", "choices": [str(n) for n in range(27)], "answer": 1})
    assert "are no list" in refused({"question": "Q", "choices": "cat, dog", "answer": "cat"})


def test_a_row_without_choices_among_rows_with_them_is_open():
    fields = read({"question": "Q", "options": "[]", "answer": "12", "question_type": "open"})
    assert fields.choices == () and fields.answers == ("12",)


def test_pictures_of_all_kinds():
    one, two = Picture("1"), Picture("2")
    question = {"question": "Q", "answer": "a"}
    assert read({**question, "image": one}).images == (one,)
    assert read({**question, "image": None}).images == ()
    assert read({**question, "images": [one, two]}).images == (one, two)
    assert read({**question, "images": "['a.png', 'b.png']"}).images == ("a.png", "b.png")
    assert read({**question, "image": {"path": "a.png", "bytes": None}}).images == ("a.png",)
    assert read({**question, "image": {"bytes": one, "path": "a.png", "width": 4}}).images == (one,)
    assert read({**question, "decoded_image": one, "image": "images/1.jpg"}).images == (one,)  # MathVista
    assert read({**question, "left": one, "right": two}, images=["right", "left"]).images == (two, one)
    assert "not fetched" in refused({**question, "image": "https://example.org/a.png"})
    assert "is no picture" in refused({**question, "image": 3})
    assert "a text of 5000 characters is no path" in refused({**question, "image": "/9j/" * 1250})  # base64


def test_a_series_of_columns_with_pictures_and_numbered_marks():
    pictures = {f"image_{n}": None for n in range(1, 8)} | {"image_1": Picture("1"), "image_3": Picture("3")}
    row = {"question": "Is <image 1> like it?", "options": "['<image 3>', 'no']", "answer": "A", **pictures}  # MMMU
    fields = read(row)
    assert fields.images == (Picture("1"), Picture("3"))
    assert fields.question == "Is <image 1> like it?" and fields.choices == ("<image 2>", "no")
    assert "<image 2> has no picture" in refused({**row, "question": "Is <image 2> like it?"})
    unasked = read({**row, "options": "['yes', 'no']"})  # the third is of the worked solution
    assert unasked.images == (Picture("1"),)


def test_marks_and_pictures_are_as_many():
    row = {"question": "<image>Q<image>", "answer": "a", "images": ["1.png", "2.png"]}
    assert read(row).images == ("1.png", "2.png")
    assert "2 marks <image> and 1 pictures" in refused({**row, "images": ["1.png"]})
    assert "2 marks <image> and 0 pictures" in refused({**row, "images": None})
    assert read({**row, "question": "Q"}).images == ("1.png", "2.png")
    assert "others by number" in refused({**row, "question": "<image> <image 1>"})


def test_half_a_character_is_refused():
    assert "half a character" in refused({"question": "\ud83d", "answer": "a"})
    assert "half a character" in refused({"question": "Q", "answer": "\ud83d"})


def test_what_stands_around_golds_is_taken_off():
    def gold(text: str) -> tuple[str, tuple[str, ...]]:
        fields = read({"problem": "Q", "solution": text})
        return fields.reasoning, fields.answers

    assert gold("<think> so it is </think> a dog") == ("so it is", ("a dog",))  # MLLM-CTBench
    assert gold("<think>so</think>\n<answer> B </answer>") == ("so", ("B",))
    assert gold("\\boxed{\\frac{1}{2}}") == ("", ("\\frac{1}{2}",))
    assert gold("$\\boxed{5}$") == ("", ("5",))
    assert gold("2 and 3 are \\boxed{5}.") == ("2 and 3 are \\boxed{5}.", ("5",))
    assert gold("2 and 3 are 5.\n#### 5") == ("2 and 3 are 5.", ("5",))  # GSM8K
    assert gold("<think> never closed") == ("", ("<think> never closed",))
    assert gold("a < b") == ("", ("a < b",))


def test_a_solution_beside_an_answer_is_reasoning():
    row = {
        "question": "Q",
        "choices": ["x", "y"],
        "answer": 1,
        "hint": "",
        "lecture": "L",
        "solution": "S",
    }  # ScienceQA
    layout = layout_of(Data(path="x"), tuple(row), row)
    assert layout(row) == Fields("Q", ("B",), choices=("x", "y"), reasoning="S")
    assert layout.hides == {"answer", "solution"}


def test_rows_of_alpaca():
    row = {"instruction": "Add.", "input": "2 3", "output": "5"}
    assert read(row) == Fields("Add.\n2 3", ("5",))
    assert read({**row, "input": ""}).question == "Add."


def test_pictures_and_labels_alone_need_no_question():
    assert read({"image": "cats/1.png", "label": "cats"}) == Fields("", ("cats",), ("cats/1.png",))


def test_a_text_alone_is_what_is_likely_or_not():
    assert read({"text": "a \\boxed{b}"}) == Fields("a \\boxed{b}", ("a \\boxed{b}",))
    assert read({"id": "7", "text": ""}) == Fields("", (), id="7")


def test_no_question_is_needed_where_the_words_of_the_prompt_are_one():
    row = {"file_name": "de.png", "country": "Germany", "code": "de"}
    assert "no column is called question" in refused(row, answer="country")
    data = Data.model_validate({"path": "x.csv", "columns": {"answer": "country"}})
    assert layout_of(data, tuple(row), row, asks=False)(row) == Fields("", ("Germany",), ("de.png",))


def test_a_missing_column_is_named_with_those_there_are():
    told = refused({"frage": "Q", "answer": "a"})
    assert "data.columns.question" in told and "frage, answer" in told
    told = refused({"question": "Q", "antwort": "a"})
    assert "data.columns.answer" in told and "question, antwort" in told
    assert "did you mean 'answer'" in refused({"question": "Q", "answer": "a"}, answer="anser")


# Chats

SHAREGPT = {
    "messages": [{"role": "user", "content": "<image>\nWhat?"}, {"role": "assistant", "content": "A dog"}],
    "images": ["1.png"],
}
LLAVA = {
    "id": "7",
    "image": "coco/1.jpg",
    "conversations": [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A dog"}],
}


@pytest.mark.parametrize("shape", ["auto", "sharegpt"])
def test_llama_factory(shape: str):
    assert read(SHAREGPT, shape) == Fields("<image>\nWhat?", ("A dog",), ("1.png",))
    system = {"role": "system", "content": "Be short."}
    assert read({**SHAREGPT, "messages": [system, *SHAREGPT["messages"]]}, shape).system == "Be short."
    assert read({**SHAREGPT, "system": "Be short."}, shape).system == "Be short."


@pytest.mark.parametrize("shape", ["auto", "llava", "sharegpt"])
def test_llava(shape: str):
    assert read(LLAVA, shape) == Fields("<image>\nWhat?", ("A dog",), ("coco/1.jpg",), id="7")
    text = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "That."}]
    assert read({"id": "8", "conversations": text}, shape) == Fields("What?", ("That.",), id="8")


def test_evaluation_rows_of_llava():
    row = {"question_id": 3, "image": "1.jpg", "text": "What?", "answer": "dog"}
    for shape in ("auto", "llava"):
        assert read(row, shape) == Fields("What?", ("dog",), ("1.jpg",), id="3")


def test_content_in_blocks():
    image = Picture()
    blocks = [{"type": "image", "text": None}, {"type": "text", "text": "What?"}]
    answer = {"role": "assistant", "content": [{"type": "text", "text": "A dog"}]}
    row = {"messages": [{"role": "user", "content": blocks}, answer], "images": [image]}
    assert read(row) == Fields("<image>What?", ("A dog",), (image,))
    inside = [{"type": "text", "text": "What?"}, {"type": "image", "image": image}]
    assert read({"messages": [{"role": "user", "content": inside}, answer]}) == Fields(
        "What?<image>", ("A dog",), (image,)
    )
    asked = [{"type": "image_url", "image_url": {"url": "https://example.org/1.png"}}]
    assert "not fetched" in refused({"messages": [{"role": "user", "content": asked}, answer]})
    asked = [{"type": "video", "video": "1.mp4"}]
    assert "a block of type 'video'" in refused({"messages": [{"role": "user", "content": asked}, answer]})


def test_a_chat_of_several_rounds_is_refused():
    assert "user, assistant, user, assistant" in refused(
        {"messages": SHAREGPT["messages"] * 2, "images": ["1.png"] * 2}
    )
    assert "here speak assistant, user" in refused({"messages": SHAREGPT["messages"][::-1], "images": ["1.png"]})
    assert "nobody" in refused({"messages": []})
    assert "a turn of 'tool'" in refused({"messages": [*SHAREGPT["messages"], {"role": "tool", "content": "x"}]})
    assert "it has videos" in refused({**SHAREGPT, "videos": ["1.mp4"]})


def test_a_chat_without_an_answer_has_none():
    assert read({"messages": SHAREGPT["messages"][:1], "images": ["1.png"]}).answers == ()
    row = {"messages": SHAREGPT["messages"][:1], "images": ["1.png"], "gold": ["a", "b"]}
    assert read(row, answer="gold").answers == ("a", "b")
    assert read({**LLAVA, "answer": ["a cat", "a dog"]}).answers == ("a cat", "a dog")


def test_easyr1_and_verl():
    row = {"images": [Picture()], "problem": "<image>Find x.", "answer": "\\boxed{5}"}
    for shape in ("auto", "easyr1"):
        assert read(row, shape) == Fields("<image>Find x.", ("5",), (Picture(),))
    row = {
        "data_source": "hiyouga/geometry3k",
        "prompt": [{"role": "user", "content": "<image>Find x."}],
        "images": [Picture()],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "5"},
        "extra_info": {"split": "train", "index": 0},
    }
    for shape in ("auto", "easyr1"):
        assert read(row, shape) == Fields("<image>Find x.", ("5",), (Picture(),))
    assert layout_of(Data(path="x"), tuple(row), row).hides == {"prompt", "reward_model"}


def test_trl():
    assert read({"prompt": "Q", "completion": "<think>r</think>a"}) == Fields("Q", ("a",), reasoning="r")
    turns = {"prompt": [{"role": "user", "content": "Q"}], "completion": [{"role": "assistant", "content": "a"}]}
    assert read({**turns, "images": [Picture()]}) == Fields("Q", ("a",), (Picture(),))
    assert read({"prompt": turns["prompt"], "solution": "\\boxed{3}"}) == Fields("Q", ("3",))  # rows for GRPO
    assert read({"prompt": "Q", "answer": "a"}) == Fields("Q", ("a",))  # TRACE
    assert "data.columns.answer" in refused({"prompt": turns["prompt"], "gold": "a"})


def test_columns_that_several_layouts_fit_are_refused():
    row = {**SHAREGPT, "question": "What?", "answer": "dog"}
    assert "may be sharegpt or columns: write which as data.rows" in refused(row)
    assert read(row, "columns", images="images").question == "What?"
    assert "may be prompt-completion or columns" in refused({"prompt": "Q", "completion": "c", "answer": "a"})
    assert "both conversations and messages" in refused({**LLAVA, "messages": SHAREGPT["messages"]})


def test_a_layout_that_is_asked_for_needs_its_columns():
    row = {"question": "Q", "answer": "a"}
    assert "needs a column conversations or messages; there are question, answer" in refused(row, "sharegpt")
    assert "needs a column prompt and completion" in refused(row, "prompt-completion")


def test_layouts_are_sent_to_other_processes():
    for row in (SHAREGPT, {"question": "Q", "answer": "a"}):
        layout = layout_of(Data(path="x"), tuple(row), row)
        assert pickle.loads(pickle.dumps(layout))(row) == layout(row)
