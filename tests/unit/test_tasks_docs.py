"""docs/tasks.md says what is so: its tables are made from the files that come with cpt, its recipe loads."""

from __future__ import annotations

from pathlib import Path

import pytest
from stream_files import evaluated, llava, write

import cpt.tasks.registry
from cpt.recipe import expand_arms, load_recipe
from cpt.recipe.task_files import read_task_file, shipped_task_files
from cpt.recipe.task_table import END, LABELS, START, facts, put, tables

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tasks.md"


@pytest.fixture
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_the_tables_are_made_from_the_files(page: str):
    between = page.partition(START)[2].partition(END)[0]
    assert between == tables(), "python -m cpt.recipe.task_table docs/tasks.md puts what belongs between the two marks"


def test_tables_are_put_between_their_marks(tmp_path: Path):
    file = tmp_path / "tasks.md"
    file.write_text(f"before\n{START}old{END}\nafter\n", encoding="utf-8")
    put(file)
    assert file.read_text(encoding="utf-8") == f"before\n{START}{tables()}{END}\nafter\n"


def test_every_task_has_a_line_with_all_that_is_known():
    lines = [line for line in tables().splitlines() if line.startswith("| `")]
    names = [one.name for file in shipped_task_files().values() for one in read_task_file(file, ".")]
    assert [line.split("`")[1] for line in lines] == names
    assert all(line.count(" | ") == 7 for line in lines)


def test_what_a_task_says_of_itself_is_read_label_by_label():
    said = "Source: a: b. Asks: the problem. Licence: MIT. Rows: 3. Unverified: all. And a note."
    assert facts(said) == dict(zip(LABELS, ("a: b.", "the problem.", "MIT.", "3.", "all. And a note."), strict=True))
    assert facts("My invoices") == {"Source": "My invoices"}


def test_the_recipe_loads(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cpt.tasks.registry, "_declared", {})
    for task, test in (("GQA", "test"), ("VQAv2", "val")):
        folder = f"Instruction_Original/{task}"
        rows = llava("x", *[("1.png", "Is it red?", "yes")] * 64)
        write(
            tmp_path,
            {
                f"{folder}/train.json": rows,
                f"{folder}/{test}.json": evaluated(("1.png", "Is it red?", "yes")),
                "cl_dataset/1.png": (8, 8),
            },
        )
    shown = page.partition("<!-- recipe -->\n```\n")[2].partition("```")[0]
    file = tmp_path / "coin.yaml"
    file.write_text(shown.replace("root: /data/coin", f"root: {tmp_path}"), encoding="utf-8")
    recipe = load_recipe(file)
    assert recipe.task_names == ["coin-gqa", "coin-vqav2"]
    assert set(expand_arms(recipe)) == {"sft", "grpo"}
