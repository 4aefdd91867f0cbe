"""The pages in docs/: their recipes load, `cpt plan` prints what they show, and their worked examples run.

docs/rewards.md has tests of its own in test_rewards_docs, the regulariser of docs/adding_a_method.md in
test_methods_regularisers. A page marks what is run: `file: NAME` is written, `into: PATH` is added to that source file,
`output` is a command and what it prints, `test: NAME` is a test.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest
import test_advantages
import test_tasks
import yaml
from command import cpt as run_cpt
from folders import load_arm, model_folder
from picture_packages import home_with_pictures
from PIL import Image

import cpt.tasks.registry
from cpt.evaluate.evaluators.base import Subject, measured_key
from cpt.plan.make import make_plan
from cpt.recipe import expand_arms, load_recipe
from cpt.store.folder import StageDir
from cpt.store.run_store import RunStore
from cpt.tasks import get_task
from cpt.tasks.chat import checked_prompt
from cpt.tasks.definition import AnswersFrom, Columns, Data, PromptWords, TaskDefinition
from cpt.tasks.world import shapes
from cpt.types import Task

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
MARKED = re.compile(r"<!-- (file|into|output|test)(?:: (\S+))? -->\n```\w*\n(.*?)```", re.DOTALL)
YAML = re.compile(r"```yaml\n(.*?)```", re.DOTALL)
TASK, METHOD, EVALUATOR = "docs/adding_a_task.md", "docs/adding_a_method.md", "docs/adding_an_evaluator.md"
DATA = "docs/your_data.md"
ELSEWHERE = "type: confidence"  # the regulariser of the guide, which no recipe knows
BASE = "version: 1\nname: page\nmodel: builtin/tiny-qwen2_5-vl\n"
TASKS = "tasks: [count-colour, choice]\n"
ARMS = "arms:\n  grpo: {method: {type: grpo, max_steps: 1}}\n"


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def marked(page: str, kind: str) -> dict[str, str]:
    """The page's blocks of one kind, by the name in the mark; outputs by their command."""
    blocks = [(name, block) for found, name, block in MARKED.findall(text_of(page)) if found == kind]
    if kind != "output":
        return dict(blocks)
    return {block.partition("\n")[0].removeprefix("$ "): block.partition("\n")[2] for _, block in blocks}


def write_files(page: str) -> None:
    """The page's files, into the working folder."""
    for name, text in marked(page, "file").items():
        Path(name).write_text(text, encoding="utf-8")


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


def planned(capfd: pytest.CaptureFixture[str], command: str) -> list[str]:
    """What the command prints, in this process."""
    code = run_cpt(*shlex.split(command)[1:])
    out, err = capfd.readouterr()
    assert code == 0, err
    return lines(out)


def source_file(path: Path, text: str) -> ModuleType:
    """A module from its text."""
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def count_shape() -> Any:
    """The guide's task, as if it stood in its file."""
    (code,) = marked(TASK, "into").values()
    scope = dict(vars(shapes))
    exec(compile(code, "count_shape.py", "exec"), scope)
    return scope["CountShape"]()


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Task:
    """The guide's task, entered."""
    found = count_shape()
    others = cpt.tasks.registry._registry
    monkeypatch.setattr(cpt.tasks.registry, "_registry", lambda: {**others(), found.name: found})
    return found


# ---- recipes


@pytest.mark.parametrize("page", PAGES)
def test_every_recipe_and_every_part_of_one_loads(page: str, task: Task, tmp_path: Path, monkeypatch):
    if page == DATA:  # its pictures are in the user's home
        home_with_pictures(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(ROOT / "recipes" / "rewards", tmp_path / "rewards")
    for block in YAML.findall(text_of(page)):
        if ELSEWHERE in block or "reinforce_batch" in block:
            continue
        keys = set(yaml.safe_load(block))
        missing = [part for key, part in {"tasks": TASKS, "arms": ARMS}.items() if key not in keys]
        whole = block if "version" in keys else BASE + block + "".join(missing)
        file = tmp_path / "page.yaml"
        file.write_text(whole, encoding="utf-8")
        assert expand_arms(load_recipe(file)), block


@pytest.mark.parametrize("page", ["docs/replay.md", "docs/real_models.md"])
def test_plans_are_those_that_the_page_shows(page: str, tmp_path: Path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    write_files(page)
    shown = marked(page, "output")
    assert shown
    for command, output in shown.items():
        assert planned(capfd, command) == lines(output), command


# ---- docs/your_data.md


def test_the_recipe_over_a_csv_file_is_planned_as_shown(tmp_path: Path, monkeypatch, capfd):
    """On as many rows as the flags have; the plan says nothing of what is in them."""
    flags = tmp_path / "cpt-pictures" / "flags"
    (flags / "pictures").mkdir(parents=True)
    rows = ["file_name,question,answer,colour"]
    for number in range(860):
        picture = flags / "pictures" / f"{number // 4}.png"
        Image.new("RGB", (8, 8), (number // 4, 0, 0)).save(picture)
        rows.append(f"{picture.name},Is there red in the picture?,{'yes' if number % 2 else 'no'},red")
    (flags / "colours.csv").write_text("\n".join(rows), encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    write_files(DATA)
    ((command, output),) = marked(DATA, "output").items()
    assert planned(capfd, command) == lines(output)


def test_every_key_of_a_task_is_in_the_table():
    rows = [line.split(" | ") for line in text_of(DATA).splitlines() if line.startswith("| `")]
    named = set(re.findall(r"`([^`]+)`", " ".join(row[0] for row in rows)))
    keys = TaskDefinition.model_fields.keys() - {"data", "prompt"}
    keys |= {f"data.{name}" for name in Data.model_fields} | {f"prompt.{name}" for name in PromptWords.model_fields}
    assert keys <= named
    for key, model in {"data.columns": Columns, "data.answers_from": AnswersFrom}.items():
        text = " ".join(" ".join(row) for row in rows if f"`{key}`" in row[0])
        assert all(re.search(rf"\b{name}\b", text) for name in model.model_fields), key


# ---- docs/adding_a_task.md


def test_the_task_passes_what_every_task_has_to(task: Task):
    test_tasks.test_the_same_arguments_give_the_same_samples(task)
    test_tasks.test_no_scene_is_in_two_splits(task)
    test_tasks.test_a_target_in_the_asked_format_scores_fully(task)
    test_tasks.test_a_bare_answer_is_wrong_strictly_and_right_tolerantly(task)
    test_tasks.test_the_habit_is_a_wrong_answer_often_enough(task)
    test_tasks.test_the_prompt_shows_the_question_and_nothing_of_the_answer_key(task)
    test_tasks.test_questions_come_in_several_phrasings(task)
    for sample in task.samples("train", 20):
        assert checked_prompt(task, sample, "think")


def test_the_task_passes_its_own_test(task: Task):
    scope: dict[str, Any] = {"get_task": get_task}
    exec(compile(marked(TASK, "test")["count-shape"], "test_count_shape.py", "exec"), scope)
    scope["test_count_shape_counts_what_the_solution_lists"]()


def test_the_built_in_model_knows_every_word_of_the_task(task: Task):
    words = json.loads((ROOT / "cpt/tasks/world/tiny/tokenizer.json").read_text())["model"]["vocab"]
    assert "larger" in words and "smaller" not in words
    for sample in task.samples("base", 200):
        assert set(f"{sample.question} {sample.reasoning} {sample.gold[0]}".split()) <= set(words)


def test_the_task_s_plan_is_the_one_shown(task: Task, tmp_path: Path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    write_files(TASK)
    ((command, output),) = marked(TASK, "output").items()
    assert planned(capfd, command) == lines(output)


# ---- docs/adding_a_method.md


REGISTRY = "cpt/methods/registry.py"


def edited_registry() -> str:
    """With what the guide adds to it: a regulariser and a method."""
    lines = ["from cpt.methods.confidence import Confidence", "from cpt.methods.reinforce_batch import ReinforceBatch"]
    entries = ["AnyRegulariser = Confidence | ", "AnyMethod = ReinforceBatch | "]
    text = (ROOT / REGISTRY).read_text(encoding="utf-8")
    for shown in (*lines, *entries):
        assert shown in text_of(METHOD), shown
    for entry in entries:
        name = entry.partition(" ")[0]
        assert text.count(f"{name} = ") == 1
        text = text.replace(f"{name} = ", entry)
    return text.replace("from cpt.methods.a_gem", "\n".join([*lines, "from cpt.methods.a_gem"]))


def test_the_guides_advantage_passes_its_test(tmp_path: Path):
    module = source_file(tmp_path / "reinforce_batch.py", marked(METHOD, "file")["cpt/methods/reinforce_batch.py"])
    scope = {**vars(test_advantages), **vars(module)}
    exec(compile(marked(METHOD, "test")["advantages"], "test_batch_mean.py", "exec"), scope)
    scope["test_the_mean_of_the_batch"]()


def test_the_guides_method_and_regulariser_are_planned_as_shown(tmp_path: Path, monkeypatch):
    """In a copy of the package that has the guide's two files and their names, and nothing else."""
    shutil.copytree(ROOT / "cpt", tmp_path / "cpt", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / REGISTRY).write_text(edited_registry(), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    write_files(METHOD)
    ((command, output),) = marked(METHOD, "output").items()
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    ran = [sys.executable, "-m", "cpt.cli", *shlex.split(command)[1:]]
    done = subprocess.run(ran, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert lines(done.stdout) == lines(output)
    regularised = "arms.batch-mean.regularisers=[{type: confidence, coefficient: -1}]"
    refused = [*ran, "arms.batch-mean.method.scale_rewards=group", regularised]
    done = subprocess.run(refused, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert "scale_rewards: is always none with this type of method, not 'group'" in done.stderr
    assert "regularisers.0.coefficient: must be greater than 0, not -1" in done.stderr


# ---- docs/adding_an_evaluator.md


def test_the_guide_s_evaluator_measures_a_stage(tmp_path: Path):
    module = source_file(tmp_path / "weights.py", marked(EVALUATOR, "file")["weights.py"])
    plan = make_plan(load_arm(tmp_path, "{method: {type: sft, max_steps: 2}}"))
    stage, out = plan.stages[0], StageDir(tmp_path / "stage")
    model_folder(out.policy, fill=0x3F)  # every weight is 0x3f3f3f3f, 0.747; the base model's are 0
    one, store = module.WeightsEvaluator(), RunStore(tmp_path)
    subject = Subject.of_stage(stage, out)
    assert one.measures(Subject.of_base(plan.bases[0], out)) is None
    assert one.run(subject, None) == {"tensors": 2}
    weight = struct.unpack("<f", b"\x3f" * 4)[0]
    assert {row["tensor"]: row["distance"] for row in pq.read_table(*one.files(out)).to_pylist()} == pytest.approx(
        {"model.layers.0.q_proj.weight": 4 * weight, "model.layers.0.norm.weight": 2 * weight}
    )
    store.mark_measured(out, one.name, stage.key, measured_key(one, subject) or "", one.files(out))
    assert out.markers() == [out.root / "evaluated" / "weights.json"]


# ---- names of files and modules

ROOMS = "cpt|rewards|tests|scripts|benchmarks|recipes|requirements|docs"
PATHS = re.compile(rf"(?<![\w/.])(?:\.\./)?((?:{ROOMS})/[\w/.-]*(?:\.(?:py|md|txt|yaml|j2|png)|/))(?![\w*<{{])")
DOTTED = re.compile(r"`((?:cpt|rewards)(?:\.\w+)+)`")
DEFINED = re.compile(r"`(\w+)`\s+(?:in|of)\s+\[[^]]*\]\((?:\.\./)?((?:cpt|rewards|tests)/[\w/]+\.py)\)")
ELSEWHERE_ROOTED = ("", "recipes", "cpt/report")  # a recipe's files are relative to it, a template to its package
MADE_BY_THE_GUIDES = {"cpt/methods/confidence.py", "cpt/methods/reinforce_batch.py"}
FILES = {"parquet", "json", "html", "py"}  # `rewards.json` is a file and no module


def texts() -> dict[str, str]:
    """The pages, and every source file with its comments and docstrings."""
    sources = [path for room in ("cpt", "rewards", "scripts") for path in sorted((ROOT / room).rglob("*.py"))]
    every = [*map(ROOT.joinpath, PAGES), *sources]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in every}


@cache
def defined_in(path: Path) -> set[str]:
    """The names that a module defines or imports, those in its classes included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
    return found


def is_there(dotted: str) -> bool:
    """Whether a dotted name is a module of this repository, or stands for names that are defined in one."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:end])
        module = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if module.is_file():
            return set(parts[end:]) <= defined_in(module)
    return False


def test_every_file_and_module_that_is_named_exists():
    gone = []
    for name, text in texts().items():
        for path in set(PATHS.findall(text)) - MADE_BY_THE_GUIDES:
            if not any((ROOT / folder / path).exists() for folder in ELSEWHERE_ROOTED):
                gone.append(f"{name}: {path}")
        for dotted in set(DOTTED.findall(text)):
            if dotted.rpartition(".")[2] not in FILES and not is_there(dotted):
                gone.append(f"{name}: {dotted}")
    assert not gone


def test_every_definition_that_a_page_names_is_in_its_file():
    named = [(page, name, path) for page in PAGES for name, path in DEFINED.findall(text_of(page))]
    assert named
    assert not [one for one in named if one[1] not in defined_in(ROOT / one[2])]


def test_every_link_of_a_page_leads_to_a_file():
    links = [(page, link) for page in PAGES for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text_of(page))]
    assert not [one for one in links if "://" not in one[1] and not ((ROOT / one[0]).parent / one[1]).exists()]
