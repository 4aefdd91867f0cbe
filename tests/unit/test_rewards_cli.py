"""`cpt rewards` as a user meets it: what is printed and written, one-line errors, exit codes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from command import cpt

from cpt.common.console import visible
from cpt.store.records import write_records
from cpt.types import Record
from rewards import registry

SUBSTRING = """\
def score(completion, *, gold, **_):
    return float(any(answer in completion for answer in gold))
"""


def rewards(*args: str) -> int:
    """The exit code of `cpt rewards …`."""
    return cpt("rewards", *args)


def lines(path: str, *rows: dict[str, Any]) -> str:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def record(task: str, completion: str, gold: str) -> Record:
    return Record("sft", 0, 1, task, f"{task}/test/0/0", "?", completion, "stop", "", [gold], 0, 0, 3)


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Four records of two tasks in the working directory: right, wrong, without format, and a hedge."""
    monkeypatch.chdir(tmp_path)
    rows = [
        record("parity", "<answer> yes </answer>", "yes"),
        record("parity", "<answer> no </answer>", "yes"),
        record("colour", "red", "red"),
        record("colour", "<answer> red or blue </answer>", "red"),
    ]
    write_records(Path("records.parquet"), rows)
    return "records.parquet"


def test_list_shows_every_reward_and_one_in_full(capfd):
    assert rewards("list") == 0
    shown = capfd.readouterr().out
    for name in registry.names():
        entry = registry.get(name)
        assert f"\n{name}  {entry.family}" in f"\n{shown}"
        assert entry.formula in shown
    assert rewards("list", "number") == 0
    shown = " ".join(capfd.readouterr().out.split())
    assert "absolute=0.0, relative=0.0" in shown
    assert registry.get("number").limits in shown


def test_score_breaks_down_by_status_part_and_task(records, capfd):
    assert rewards("score", records, "--reward", "accuracy-format", "--reward", "exact") == 0
    shown = [line.split() for line in capfd.readouterr().out.splitlines()]
    # (1 + 0.1 + 0 + 0.1) / 4; three of four completions are in the format.
    assert ["accuracy-format", "0.300", "3", "(75.0", "%)", "0", "0", "1", "(25.0", "%)", "0", "0"] in shown
    assert ["accuracy", "0.250"] in shown
    assert ["format", "0.750"] in shown
    assert ["parity", "2", "0.550", "0.500"] in shown
    assert ["colour", "2", "0.050", "0.000"] in shown


def test_score_writes_what_it_found(records, capfd):
    assert rewards("score", records, "--reward", "exact", "--out", "scored.parquet") == 0
    table = pq.read_table("scored.parquet").to_pydict()
    assert table["exact/value"] == [1.0, 0.0, 0.0, 0.0]
    assert table["exact/status"] == ["ok", "ok", "malformed", "ok"]
    assert table["exact/extracted"] == ["yes", "no", "", "red or blue"]
    assert table["completion"][2] == "red"
    assert not list(Path().glob(".*tmp"))


def test_score_reads_a_set_of_rewards_from_a_file(records, capfd):
    Path("mine.yaml").write_text("- {type: exact, weight: 0.5, requires: format}\n- {type: format, weight: 0.5}\n")
    assert rewards("score", records, "--rewards", "mine.yaml") == 0
    shown = [line.split() for line in capfd.readouterr().out.splitlines()]
    assert ["mine", "0.500"] in [line[:2] for line in shown]


def test_score_reads_what_a_recipe_pays_for(records, capfd):
    Path("my_reward.py").write_text(SUBSTRING)
    Path("recipe.yaml").write_text(
        """\
        version: 1
        reward: [{type: exact, weight: 1}]
        tasks: [{name: parity, reward: {components: [{type: yes-no, weight: 2}], clip: [0, 1]}}]
        arms:
          hacked: {method: {type: grpo}, reward: [{type: python, file: my_reward.py, name: score, weight: 1}]}
        """
    )
    assert rewards("score", records, "--rewards", "recipe.yaml", "--by", "task") == 0
    shown = [line.split() for line in capfd.readouterr().out.splitlines()]
    assert ["reward", "0.250"] in [line[:2] for line in shown]
    assert ["arms.hacked", "0.750"] in [line[:2] for line in shown]
    assert ["parity", "2", "0.500", "0.500", "0.500"] in shown


def test_other_columns_and_formats(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    row = {"output": "<think> so </think> <answer> 3 </answer>", "answer": 3}
    path = lines("mine.jsonl", row)
    columns = ["--column", "completion=output", "--column", "gold=answer"]
    assert rewards("score", path, "--reward", "exact", *columns, "--template", "think", "--out", "out.jsonl") == 0
    (scored,) = map(json.loads, Path("out.jsonl").read_text().splitlines())
    assert scored["exact/value"] == 1.0
    assert rewards("score", path, "--reward", "exact", *columns, "--out", "direct.jsonl") == 0
    assert json.loads(Path("direct.jsonl").read_text())["exact/status"] == "malformed"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["score", "records.parquet"], "name a reward, such as accuracy-format"),
        (["score", "records.parquet", "--reward", "exakt"], "there is no reward called 'exakt'; did you mean 'exact'?"),
        (["score", "records.parquet", "--reward", '{"type": "exact", "red": 1}'], "did you mean 'read'?"),
        (["score", "records.parquet", "--reward", '{"type"'], "not JSON"),
        (["score", "nowhere.parquet", "--reward", "exact"], "nowhere.parquet: there is no such file"),
        (["score", "empty.jsonl", "--reward", "exact"], "empty.jsonl: has no rows"),
        (["score", "broken.parquet", "--reward", "exact"], "broken.parquet: not a whole parquet file"),
        (["score", "bare.jsonl", "--reward", "exact"], "bare.jsonl: has no column 'gold', which reward exact needs"),
        (["score", "records.parquet", "--reward", "exact", "--column", "gold"], "--column gold: has to be OURS=THEIRS"),
        (["score", "records.parquet", "--reward", "exact", "--template", "thnk"], "did you mean 'think'?"),
        (["score", "records.parquet", "--reward", "exact", "--by", "tsk"], "to group by; did you mean 'task'?"),
        (["score", "records.parquet", "--reward", "length"], "reward length could score no row; the first: error"),
        (["score", "records.parquet", "--rewards", "nowhere.yaml"], "nowhere.yaml: there is no such file"),
        (["score", "records.parquet", "--rewards", "plain.yaml"], "plain.yaml: has no `reward:`"),
        (["score", "records.parquet", "--rewards", "odd.yaml"], "odd.yaml: odd has to be a list of components"),
        (["audit"], "name a reward"),
        (["audit", "exact", "--template", "thnk"], "there is no format 'thnk'; did you mean 'think'?"),
        (["audit", "exact", "--on", "nowhere.jsonl"], "nowhere.jsonl: there is no such file"),
        (["agree", "exact", "exact", "--on", "records.parquet"], "agrees with itself"),
        (["agree", "exact", "yes-no", "--on", "records.parquet", "--threshold", "0"], "threshold: must be above 0"),
        (["list", "exakt"], "did you mean 'exact'?"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(records, capfd, args, message):
    Path("empty.jsonl").write_text("")
    Path("broken.parquet").write_text("PAR1")
    Path("plain.yaml").write_text("arms: {}\n")
    Path("odd.yaml").write_text("3\n")
    lines("bare.jsonl", {"completion": "3"})
    assert rewards(*args) == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert line.startswith("cpt: error: ")
    assert message in line


def test_what_is_there_is_not_written_over(records, capfd):
    before = Path(records).read_bytes()
    assert rewards("score", records, "--reward", "exact", "--out", records, "--force") == 2
    assert "is the file that is read" in capfd.readouterr().err
    Path("again.parquet").hardlink_to(records)
    assert rewards("score", records, "--reward", "exact", "--out", "again.parquet", "--force") == 2
    assert Path(records).read_bytes() == before
    Path("old.jsonl").write_text("old")
    assert rewards("score", records, "--reward", "exact", "--out", "old.jsonl") == 2
    assert "old.jsonl: exists; --force replaces it" in capfd.readouterr().err
    assert Path("old.jsonl").read_text() == "old"
    assert rewards("score", records, "--reward", "exact", "--out", "old.jsonl", "--force") == 0
    assert len(Path("old.jsonl").read_text().splitlines()) == 4
    assert rewards("score", records, "--reward", "exact", "--out", "new.csv") == 2
    capfd.readouterr()
    assert rewards("score", records, "--reward", "exact", "--out", "records.parquet/new.jsonl") == 2
    assert "records.parquet/new.jsonl: can't be written" in capfd.readouterr().err


def test_all_questions_are_checked_and_the_first_20_tried(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    questions = [
        {"question": f"How many are there in {chr(97 + n % 26)}?", "gold": str(n), "wrong": str(n + 1)}
        for n in range(13, 34)
    ]
    lines("mine.jsonl", *questions)
    assert rewards("audit", "number", "--on", "mine.jsonl", "--template", "direct") == 0
    assert "tried on the first 20 of 21 questions; --rows 21 tries them all" in capfd.readouterr().out
    lines("mine.jsonl", *questions, {"question": "How many are there?", "gold": "11 or 12", "wrong": "1"})
    assert rewards("audit", "number", "--on", "mine.jsonl") == 2
    assert "row 22" in capfd.readouterr().err


def test_an_audit_that_finds_something_exits_with_1(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    Path("my_reward.py").write_text(SUBSTRING)
    reward = json.dumps({"type": "python", "file": "my_reward.py", "name": "score"})
    assert rewards("audit", reward, "--template", "direct") == 1
    shown = capfd.readouterr().out
    assert "denial" in shown
    assert "<answer> not red </answer>" in shown
    assert rewards("audit", "normalised", "--template", "direct") == 0
    shown = " ".join(capfd.readouterr().out.split())
    assert "normalised: passed, 1 known" in shown
    assert "count as the plain ones (NFKC)" in shown


def test_an_audit_on_the_users_own_questions(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    path = lines("mine.jsonl", {"question": "Is it ?", "gold": "yes", "wrong": "no", "same": ["rightly"]})
    assert rewards("audit", "yes-no", "--on", path, "--template", "direct") == 1
    shown = " ".join(capfd.readouterr().out.split())
    assert "not rewarded the same (1) 1 <answer> rightly </answer>" in shown


ADMITS = """def score(completion, *, gold, **_):
    \'\'\'Whether a gold answer stands anywhere in the text.

    Limits: LIMITS
    \'\'\'
    return float(any(answer in completion for answer in gold))
"""


def test_a_users_docstring_admits_limits_by_naming_the_cases(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    reward = json.dumps({"type": "python", "file": "my_reward.py", "name": "score"})
    path = lines("mine.jsonl", {"question": "Is it ?", "gold": "yes", "wrong": "no", "same": ["Yes"]})
    seen = ""
    for limits, code in (("it likes words.", 1), ("CASES pay. Capitals count: the same (1).", 0)):
        cases = re.findall(r"(?m)^ rewarded +(.+?)  +\d", seen)
        Path("my_reward.py").write_text(ADMITS.replace("LIMITS", limits.replace("CASES", ", ".join(cases))))
        assert rewards("audit", reward, "--on", path, "--template", "direct", "--show", "1") == code
        seen = capfd.readouterr().out
    assert re.search(r"score: passed, \d+ known, of \d+ completions", seen)
    assert "Capitals count: the same (1)." in seen
    composite = json.dumps([json.loads(reward) | {"weight": 1}])
    assert rewards("audit", composite, "--on", path, "--template", "direct") == 0


def test_no_words_admit_that_a_right_answer_is_not_rewarded(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    text = "def score(completion, **_):\n    'Nothing.\\n\\nLimits: the right answer is not rewarded.'\n    return 0.0"
    Path("my_reward.py").write_text(text)
    reward = json.dumps({"type": "python", "file": "my_reward.py", "name": "score"})
    assert rewards("audit", reward, "--template", "direct") == 1
    assert "right answer" in capfd.readouterr().out


def test_a_recipes_rewards_are_tried_on_its_own_tasks(tmp_path, monkeypatch, capfd):
    """A reward that counts says nothing of colours."""
    monkeypatch.chdir(tmp_path)
    Path("counts.py").write_text(COUNTS)
    counts = "{type: python, file: counts.py, name: score, weight: 1}"
    text = f"""
        version: 1
        name: demo
        model: builtin/tiny-qwen2_5-vl
        tasks: [count-colour, {{name: which-row, reward: [{{type: exact, weight: 1}}]}}]
        reward: [{counts}]
        arms:
          grpo: {{method: {{type: grpo}}}}
        """
    Path("recipe.yaml").write_text(text)
    assert rewards("audit", "--rewards", "recipe.yaml", "--template", "direct") == 0
    shown = capfd.readouterr().out
    assert "reward: passed" in shown
    assert "tasks.which-row: passed" in shown
    Path("alone.yaml").write_text(f"[{counts}]")  # questions about colours are among those for any reward
    assert rewards("audit", "--rewards", "alone.yaml", "--template", "direct") == 1
    assert "right answer" in capfd.readouterr().out


COUNTS = """
from rewards.extract import read_answer

def score(completion, *, gold, template="direct", **_):
    said = read_answer(completion, "strict", template).answer
    return float(said.isdecimal() and said in gold)
"""


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ("[" * 10_000, "brackets within brackets without end"),
        ('{"type": ' * 5_000, "brackets within brackets without end"),
        ('{"type": "number", "relative": ' + "9" * 5000 + "}", "not JSON (Exceeds the limit"),
        ('{"type": "number", "relative": NaN}', "NaN is no number"),
        ('{"type": "python", "file": 5, "name": "score"}', "type python needs 'file'"),
        ('{"type": "python", "file": "5", "name": "score"}', "there is no file 5"),
        ('{"type": "python", "file": "' + "x" * 300 + '.py", "name": "score"}', "there is no file xxx"),
        ('{"type": "python", "file": "~nosuchuser/x.py", "name": "score"}', "there is no file ~nosuchuser/x.py"),
    ],
)
def test_a_reward_beyond_all_measure_is_one_line(records, capfd, reward, message):
    assert rewards("score", records, "--reward", reward) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert message in line
    assert len(line) < 600


def test_agree_counts_and_shows_the_rows(records, capfd):
    assert (
        rewards("agree", "exact", '{"type": "exact", "read": "tolerant"}', "--on", records, "--out", "rows.jsonl") == 0
    )
    shown = capfd.readouterr().out
    words = [line.split() for line in shown.splitlines()]
    assert ["exact", "≥", "0.5", "1", "0"] in words
    assert ["exact", "<", "0.5", "1", "2"] in words
    assert "verdicts differ in 1 of 4 rows, values in 1" in shown
    assert "mean |difference| 0.250" in shown
    # p_o = 3/4, p_e = (1·2 + 3·2)/16 = 1/2.
    assert "Cohen's kappa 0.500" in shown
    assert ["3", "1", "red", "red", "0", "malformed", "1", "“red”"] in words
    (row,) = map(json.loads, Path("rows.jsonl").read_text().splitlines())
    assert (row["completion"], row["exact/value"], row["exact(read=tolerant)/value"]) == ("red", 0.0, 1.0)


def test_agree_without_anything_to_tell_apart(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    path = lines("mine.jsonl", {"completion": "<answer> yes </answer>", "gold": "yes"})
    assert rewards("agree", "exact", "yes-no", "--on", path) == 0
    assert "Cohen's kappa n/a: both say the same of every row" in capfd.readouterr().out


def test_completions_are_shown_as_they_are_and_nothing_in_them_acts(tmp_path, monkeypatch, capfd):
    """Rich markup, colours of the terminal, invisible and unpaired characters."""
    monkeypatch.chdir(tmp_path)
    path = lines("mine.jsonl", {"completion": "[bold red]x[/] \x1b[31m\u200b\u202e\ud800 [/nothing]", "gold": "x"})
    assert rewards("agree", "exact", "edit", "--on", path, "--template", "direct") == 0
    whole = lines("two.jsonl", {"completion": "[bold]x[/] \x1b[31m\u200b\ud800", "gold": "[bold]x[/]"})
    both = ['{"type": "exact", "read": "whole"}', '{"type": "edit", "read": "whole"}']
    assert rewards("agree", *both, "--on", whole) == 0
    shown = capfd.readouterr().out
    assert r"[bold]x[/] \x1b[31m\u200b\ud800" in shown
    assert "\x1b[31m" not in shown
    assert "\u200b" not in shown


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("red", 10, "red"),
        ("a\nb\tc\x00", 20, r"a\nb\tc\x00"),
        ("é 漢 🙂", 20, "é 漢 🙂"),
        ("x" * 9 + "y" * 9, 10, "xxxxxx…yyy"),
        ("x" * 100_000 + "y", 10, "xxxxxx…xxy"),
    ],
)
def test_what_is_shown_of_a_text(text, width, shown):
    assert visible(text, width) == shown


def test_help_stays_quick():
    """What the sub-commands need is imported when they run. (pydantic is typer's own for options with bounds.)"""
    heavy = ("rewards.answers", "rewards.lab.audit", "pyarrow", "rich", "numpy", "rapidfuzz", "sympy")
    code = (
        "import sys\nfrom cpt.cli.app import main\ntry:\n    main(['rewards', '--help'])\nexcept SystemExit:\n"
        f"    print('heavy:', [name for name in {heavy!r} if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "heavy: []"
