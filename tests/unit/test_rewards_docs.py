"""docs/rewards.md says what is so: the table is the registry's, and the worked example does what the page shows."""

from __future__ import annotations

import doctest
import json
import re
import shlex
from pathlib import Path

import pytest
from command import cpt

from rewards import registry
from rewards.batch import guarded
from rewards.lab import attacks
from rewards.lab.attacks import on_answers, on_shapes
from rewards.lab.audit_examples import PLANS
from rewards.reference import table, value_range

PAGE = Path(__file__).resolve().parents[2] / "docs" / "rewards.md"
FENCE = re.compile(r"<!-- (file: \S+|output|entered) -->\n```\w*\n(.*?)```", re.DOTALL)


@pytest.fixture
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


@pytest.fixture
def blocks(page: str) -> dict[str, str]:
    """The marked blocks of code on the page."""
    return dict(FENCE.findall(page))


def test_the_table_is_the_registrys(page):
    between = page.partition("<!-- table -->\n")[2].partition("\n<!-- end of table -->")[0]
    assert between == table(), "python -m rewards.reference prints what belongs between the two marks"


def test_the_table_has_every_reward_once_and_nothing_empty():
    rows = [line.strip("| ").split(" | ") for line in table().splitlines()[2:]]
    assert [row[0].strip("`") for row in rows] == registry.names()
    assert all(len(row) == 6 and all(row) for row in rows)
    assert not [row[0] for row in rows if row[5] == "–"], "every reward states its limits"


@pytest.mark.parametrize("name", [name for name in registry.names() if name != "maths"])
def test_a_reward_said_to_be_0_or_1_is_nothing_else(name, monkeypatch):
    monkeypatch.setattr(attacks, "LONG", 1_000)
    reward, plan = registry.make(name), PLANS[name]
    values = set()
    for example in plan.examples:
        for case in [*on_answers(example, "direct"), *on_shapes(example, "direct", plan.shapes)]:
            row = {**example.row("direct", case.completion), **case.columns}
            values.add(guarded(reward, case.completion, row).value)
    assert all(0 <= value <= 1 for value in values)
    if value_range(registry.get(name)) == "0 or 1":
        assert values <= {0.0, 1.0}
    else:
        assert values - {0.0, 1.0}


def test_the_first_example(page):
    code = page.partition("```python\n")[2].partition("```")[0]
    test = doctest.DocTestParser().get_doctest(code, {}, "docs/rewards.md", None, 0)
    assert doctest.DocTestRunner().run(test).failed == 0
    assert len(test.examples) == 4


def test_the_worked_example_prints_what_the_page_shows(blocks, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    for name in ("my_reward.py", "questions.jsonl"):
        Path(name).write_text(blocks[f"file: {name}"], encoding="utf-8")
    command, _, output = blocks["output"].partition("\n")
    assert cpt(*shlex.split(command)[2:]) == 0
    assert capfd.readouterr().out.strip() == output.strip()


def test_the_worked_example_is_ten_lines_and_pays_for_what_it_says(blocks, tmp_path):
    code = blocks["file: my_reward.py"]
    assert len([line for line in code.splitlines() if line]) <= 10
    (tmp_path / "my_reward.py").write_text(code, encoding="utf-8")
    from rewards.lab.choose import from_data

    clock = from_data({"type": "python", "file": "my_reward.py", "name": "clock"}, folder=tmp_path).reward
    assert clock("<answer> 09:05 </answer>", gold=["9:05"]).value == 1.0
    assert clock("<answer> 19:05 </answer>", gold=["9:05"]).value == 0.0
    assert clock("09:05", gold=["9:05"]).status == "malformed"


def test_the_line_that_enters_it_does(blocks, monkeypatch):
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    code = blocks["file: my_reward.py"].replace("def clock", f"{blocks['entered']}def clock")
    exec(compile(code, "my_reward.py", "exec"), {"reward": registry.reward})
    found = registry.get("clock")
    assert (found.family, found.required, list(found.parameters)) == ("answer", ("gold",), [])
    assert registry.make("clock")("<answer> 9:05 </answer>", gold=["09:05"]).value == 1.0


def test_the_shown_rewards_can_be_made(page):
    """Every JSON reward in a command on the page, and the components of the recipe."""
    from rewards.lab.choose import from_text

    shown = [text for text in re.findall(r"'([{\[].*?[}\]])'", page) if "python" not in text]
    assert len(shown) == 3
    assert [from_text(text).label for text in dict.fromkeys(shown)]
    assert all(json.loads(text) for text in shown)
