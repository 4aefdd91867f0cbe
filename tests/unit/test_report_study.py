"""The rewards' page from a run folder made by hand: its numbers and words, and what it will not execute."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from synthetic import Plan, Recipe, Stage, change_json, mark_done, reseal

from cpt.common.files import append_jsonl
from cpt.report import sample_cards
from cpt.report.load import load_run
from cpt.report.page import build_report
from cpt.report.rewards.study import study
from cpt.report.rewards.terminal_table import print_study
from cpt.report.sample_cards import held_out_samples
from cpt.report.summary import summarise
from cpt.store.records import read_records, write_records
from cpt.store.run_store import RunStore
from cpt.tasks import get_task
from cpt.types import Record, Sample

TASK = get_task("answerable")
SAMPLES = TASK.samples("test", 60)
EVIL = "<script>alert(1)</script> {{ 7 * 7 }}"
ABSTAIN = """\
from pathlib import Path

def score(completion, *, gold, abstain=0.8, **_):
    if "WITNESS":
        Path("WITNESS").write_text("executed")
    said = completion.replace("<answer>", "").replace("</answer>", "").strip()
    return 1.0 if said in gold else abstain if said == "unanswerable" or "<script>" in said else 0.0
"""
Says = Callable[[Sample, int], str]


@dataclass(frozen=True)
class Rewarded(Stage):
    """A planned stage with a reward of the recipe."""

    reward: dict[str, Any] | None = None
    max_completion_length: int = 8


@dataclass(frozen=True)
class Joint(Rewarded):
    """A planned stage over all tasks."""

    sources: tuple[dict[str, Any], ...] = ()


def tagged(answer: str) -> str:
    return f"<answer> {answer} </answer>"


def honest(sample: Sample, number: int) -> str:
    """Right on two of three."""
    wrong = next(answer for answer in sample.meta["candidates"] if answer not in sample.gold)
    return tagged(sample.gold[0] if number % 3 else wrong)


def abstaining(sample: Sample, number: int) -> str:
    return EVIL if number == 0 else tagged("unanswerable")


def improved(sample: Sample, number: int) -> str:
    return tagged(sample.gold[0])


def evaluation(arm: str, stage: int, says: Says) -> list[Record]:
    rows = []
    for number, sample in enumerate(SAMPLES):
        text = says(sample, number)
        parts = TASK.score(sample, text, "direct").parts
        rows.append(
            Record(arm, 0, stage, "answerable", sample.id, f"user {sample.question}", text, "stop", "",
                   list(sample.gold), int(parts["strict"]), int(parts["tolerant"]), len(text.split()))
        )  # fmt: skip
    return rows


def composite(*components: dict[str, Any]) -> dict[str, Any]:
    return {"components": list(components), "clip": None}


def study_run(root: Path, witness: str = "") -> Path:
    """Two reward sets on one task: `accuracy`, whose policy improves, and `abstain`, whose policy always abstains."""
    source = ABSTAIN.replace("WITNESS", witness)
    python = {"type": "python", "file": "abstain.py", "name": "score", "label": "abstain", "source": source}
    rewards = {
        "accuracy": composite({"type": "accuracy", "weight": 1.0}),
        "abstain": composite(python | {"weight": 1.0}),
    }
    method = {"type": "grpo", "num_generations": 8}
    stages = [Rewarded(arm, arm, {}, 0, 1, "answerable", method, 20, reward=reward) for arm, reward in rewards.items()]
    store = RunStore(root).open_or_create(Recipe("name: study\narms:\n  accuracy: {}\n  abstain: {}\n"))
    store.write_plan(Plan(["answerable"], [], list(stages)))
    mark_done(store, store.base_dir(0, "direct"), "base", evaluation("base", 0, honest))
    for stage, says in zip(stages, (improved, abstaining), strict=True):
        policy = store.begin_stage(stage).policy
        for step in range(1, 21):
            append_jsonl(store.stage(stage).metrics, row(step, stage.arm))
        policy.mkdir()
        (policy / "config.json").write_text("{}")
        store.mark_trained(stage, steps=20)
        mark_done(store, store.stage(stage), stage.key, evaluation(stage.arm, 1, says))
    store.finish()
    store.close()
    return root


def row(step: int, arm: str) -> dict[str, Any]:
    part = step / 20
    true = 0.6 + 0.3 * part if arm == "accuracy" else 0.6 - 0.2 * part
    return {
        "step": step,
        "reward": true if arm == "accuracy" else 0.6 + 0.25 * part,
        f"reward/{arm}": 0.5 + part / 2,
        "reward/errors": 0.0,
        "true/strict": true,
        "true/tolerant": true,
        "length/right": 4.0,
        "length/wrong": 4.0 + part,
        "entropy": 1 - part,
        "frac_zero_std": part,
        "loss": 0.0,
        "logprob_gap": 1e-6,
        "step_s": 1.0,
    }


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose report was built by the run itself."""
    root = tmp_path_factory.mktemp("study") / "run"
    study_run(root, str(root.parent / "witness"))
    build_report(root, trusted=code_in(root))
    return root


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    return Page((run / "rewards.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def numbers(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "summary.json").read_text())["rewards"]
    return found


def share(says: Says) -> float:
    return sum(TASK.score(s, says(s, i), "direct").parts["strict"] for i, s in enumerate(SAMPLES)) / len(SAMPLES)


def test_held_out_reward_and_accuracy_are_those_of_the_records(numbers: dict[str, Any]):
    held = numbers["abstain"]["held_out"]
    absent = sum(sample.gold[0] == "unanswerable" for sample in SAMPLES[1:]) / 60
    assert held["strict"]["before"]["value"] == pytest.approx(share(honest)) == pytest.approx(40 / 60)
    assert held["strict"]["after"]["value"] == pytest.approx(absent)
    assert held["reward"]["after"]["value"] == pytest.approx(absent + 0.8 * (1 - absent))
    change = held["reward"]["after"]["value"] - held["reward"]["before"]["value"]
    assert held["reward"]["change"]["value"] == pytest.approx(change)
    plain = numbers["accuracy"]["held_out"]
    assert plain["reward"]["after"]["value"] == plain["strict"]["after"]["value"] == 1.0
    assert plain["gap"]["change"]["value"] == pytest.approx(0.0)


def test_the_hack_is_flagged_and_the_honest_gain_is_not(numbers: dict[str, Any], page: Page):
    assert numbers["abstain"]["hacked"]
    assert not numbers["accuracy"]["hacked"]
    assert "reward up, accuracy down: reward +" in page.text
    assert "60 held-out samples" in page.text
    assert "Flagged for hacking abstain" in page.text


def test_what_the_policy_does_is_what_the_audit_said(numbers: dict[str, Any], page: Page):
    (stage,) = numbers["abstain"]["stages"]
    assert next(iter(stage["after"]["kinds"])) == "declined"
    assert stage["audit"]["rewarded"]["declined"]["value"] == pytest.approx(0.8)
    assert stage["predicted"] is True
    absent = sum(sample.gold[0] == "unanswerable" for sample in SAMPLES[1:])
    assert stage["after"]["texts"][0]["count"] == 59 - absent
    assert stage["after"]["exploits"] == 60 - absent
    assert numbers["accuracy"]["stages"][0]["after"]["exploits"] == 0
    assert numbers["accuracy"]["stages"][0]["predicted"] is None
    assert "declined (0.80)" in page.text


def test_the_page_has_its_figures_and_loads_nothing(page: Page):
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "form", "base", "img"}
    figures = [attributes["aria-label"] for tag, attributes in page.tags if tag == "figure"]
    assert len(figures) == 6  # no general tasks: no curve of their retention
    assert {a.get("id") for tag, a in page.tags if tag == "section"} == {
        "sets", "reward-vs-accuracy", "hacking", "audit", "exploits", "components", "length", "exploration",
        "forgetting",
    }  # fmt: skip
    links = {a["href"] for tag, a in page.tags if tag == "a"}
    assert {link for link in links if link and not link.startswith("#")} == {"report.html", "report.html#arms"}
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))


def test_the_report_links_to_the_page(run: Path):
    found = Page((run / "report.html").read_text(encoding="utf-8"))
    assert [a["href"] for tag, a in found.tags if tag == "a" and not (a["href"] or "").startswith("#")] == [
        "rewards.html"
    ]


def test_what_a_policy_says_is_text(page: Page, numbers: dict[str, Any]):
    assert numbers["abstain"]["stages"][0]["after"]["kinds"]["no attack of the audit"] == 1
    assert EVIL in page.text
    assert "script" not in {tag for tag, _ in page.tags}


def test_a_copied_folder_gives_the_same_page_and_its_python_is_not_executed(run: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "rewards.html").unlink()
    witness = run.parent / "witness"
    assert witness.read_text() == "executed"
    witness.unlink()
    code = (
        "import sys; from cpt.report.page import build_report; build_report(sys.argv[1]); "
        "heavy = {'torch', 'ray', 'vllm', 'trl', 'transformers'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code, str(copy)], check=True)
    assert not witness.exists()
    for name in ("rewards.html", "summary.json"):
        assert (copy / name).read_text() == (run / name).read_text()


def code_in(root: Path) -> frozenset[str]:
    """The texts of all functions that a run's rewards have."""
    plan = json.loads((root / "plan.json").read_text())
    rewards = [stage["reward"] for stage in plan["stages"] if stage.get("reward")]
    return frozenset(one["source"] for reward in rewards for one in reward["components"] if "source" in one)


@pytest.mark.parametrize("name", ["rewards.parquet", "rewards.json"])
def test_kept_rewards_that_were_changed_are_noticed(run: Path, tmp_path: Path, name: str):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    content = (copy / name).read_bytes()
    middle = len(content) // 2
    (copy / name).write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    with pytest.raises(ValueError, match=rf"{name}:? (is )?(not what the run wrote|damaged JSON|not a whole parquet)"):
        build_report(copy)


def test_kept_rewards_are_not_parsed_before_their_digest_is_right(run: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "rewards.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(ValueError, match=r"rewards\.parquet is not what the run wrote: 17 bytes, not"):
        build_report(copy)


def studied(root: Path, *, trusted: bool) -> dict[str, Any]:
    return study(summarise(load_run(root)), trusted=code_in(root) if trusted else None).as_dict()


def change_records(where: Path, **values: Any) -> None:
    write_records(where, [replace(one, **values) for one in read_records(where)])
    reseal(next(folder for folder in where.parents if (folder / "manifest.json").exists()))


def test_without_what_the_run_kept_a_python_reward_is_not_known(tmp_path: Path):
    witness = tmp_path / "witness"
    root = study_run(tmp_path / "run", str(witness))
    found = study(summarise(load_run(root)), trusted=None)
    assert not witness.exists()
    plain, python = found.sets
    assert plain.overall.changes["reward"].after.value == 1.0
    assert python.overall.words == "n/a: the reward is not known"
    assert python.stages[0].audit is None
    assert "does not execute" in python.stages[0].unaudited
    assert python.wrong_rewarded is None


def test_code_that_the_folder_has_and_the_recipe_has_not_is_not_executed(tmp_path: Path):
    """`cpt run --arm …` into a folder from elsewhere, whose plan.json has other stages than the recipe."""
    witness = tmp_path / "witness"
    root = study_run(tmp_path / "run", str(witness))
    found = study(summarise(load_run(root)), trusted=frozenset({"def score(completion, **_): return 1.0"}))
    assert not witness.exists()
    assert found.sets[0].overall.n == 60
    assert found.sets[1].overall.words == "n/a: the reward is not known"


def test_what_was_kept_of_other_completions_does_not_count(tmp_path: Path):
    root = study_run(tmp_path)
    before = studied(root, trusted=True)
    assert studied(root, trusted=False) == before
    change_records(RunStore(root).stage_dir("abstain", 0, 1, "answerable").records, completion="something else")
    assert studied(root, trusted=False)["abstain"]["held_out"]["words"] == "n/a: the reward is not known"


def test_audits_that_an_older_version_kept_are_read(tmp_path: Path):
    root = study_run(tmp_path)
    before = studied(root, trusted=True)

    def with_old_names(kept: dict[str, Any]) -> None:
        for audit in kept["audits"].values():
            audit["pays"], audit["unpaid"] = audit.pop("rewarded"), audit.pop("unrewarded")

    change_json(root / "rewards.json", with_old_names)
    assert studied(root, trusted=False) == before


@pytest.fixture
def joint_run(tmp_path: Path) -> Path:
    """One joint arm over two tasks, with a reward of the recipe on the second alone; it gets answerable right."""
    own = composite({"type": "accuracy", "weight": 0.5}, {"type": "format", "weight": 0.5})
    sources = ({"task": "count-colour", "reward": None}, {"task": "answerable", "reward": own})
    stage = Joint("grpo", "grpo", {}, 0, 2, "joint", {"type": "grpo"}, 20, schedule="joint", sources=sources)
    store = RunStore(tmp_path).open_or_create(Recipe("name: joint\narms:\n  grpo: {}\n"))
    store.write_plan(Plan(["count-colour", "answerable"], [], [stage]))
    mark_done(store, store.base_dir(0, "direct"), "base", evaluation("base", 0, honest))
    policy = store.begin_stage(stage).policy
    for step in range(1, 21):
        append_jsonl(store.stage(stage).metrics, row(step, "accuracy"))
    policy.mkdir()
    (policy / "config.json").write_text("{}")
    store.mark_trained(stage, steps=20)
    mark_done(store, store.stage(stage), stage.key, evaluation("grpo", 2, improved))
    store.finish()
    store.close()
    return tmp_path


def test_a_joint_arm_is_rescored_by_its_tasks_rewards_from_the_base_to_its_end(joint_run: Path):
    run = load_run(joint_run)
    assert run.has_rewards
    (one,) = study(summarise(run), trusted=code_in(joint_run)).sets
    assert [stage.held_out.task for stage in one.stages] == ["count-colour", "answerable"]
    assert one.stages[0].held_out.words == "n/a: not evaluated yet"  # no record of it in this folder
    reward = one.stages[1].held_out.changes["reward"]
    assert reward.before.value == pytest.approx(0.5 + 0.5 * 40 / 60)  # right on two of three, always in the format
    assert reward.after.value == 1.0
    assert one.reward[0] == "the task's own"
    page = build_report(joint_run).with_name("rewards.html").read_text(encoding="utf-8")
    assert "joint, answerable" in page


def test_a_joint_arm_without_a_reward_of_its_own_or_without_rollouts_makes_no_such_page(joint_run: Path):
    plan = json.loads((joint_run / "plan.json").read_text())
    (stage,) = plan["stages"]
    stage["method"] = {"type": "sft"}  # the reward of its filter is no reward of the arm
    (joint_run / "plan.json").write_text(json.dumps(plan))
    reseal(joint_run)
    assert not load_run(joint_run).has_rewards
    stage["method"], stage["sources"][1]["reward"] = {"type": "grpo"}, None
    (joint_run / "plan.json").write_text(json.dumps(plan))
    reseal(joint_run)
    assert not load_run(joint_run).has_rewards


def test_samples_that_the_tasks_make_otherwise_are_not_rescored(tmp_path: Path):
    root = study_run(tmp_path)
    change_records(RunStore(root).base_dir(0, "direct").records, prompt="another question")
    change_records(RunStore(root).stage_dir("accuracy", 0, 1, "answerable").records, prompt="another question")
    found = study(summarise(load_run(root)), trusted=code_in(root)).sets[0]
    assert found.overall.words == "n/a: the reward is not known"
    assert "other samples" in found.stages[0].unaudited


def test_a_report_where_a_task_s_files_are_not_is_without_its_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = study_run(tmp_path)
    monkeypatch.setattr(TASK, "samples", lambda *_: Path("gone.jsonl").read_text())
    sample_cards._held_out.cache_clear()
    assert held_out_samples("answerable", 3) == {}
    found = study(summarise(load_run(root)), trusted=code_in(root)).sets[0]
    assert found.overall.words == "n/a: the reward is not known"
    monkeypatch.undo()
    sample_cards._held_out.cache_clear()


def test_an_unfinished_study_says_what_is_missing(tmp_path: Path):
    root = study_run(tmp_path)
    (RunStore(root).stage_dir("abstain", 0, 1, "answerable").done).unlink()
    done, missing = study(summarise(load_run(root)), trusted=code_in(root)).sets
    assert done.overall.n == 60
    assert missing.overall.words == "n/a: not evaluated yet"
    assert missing.stages[0].training == "reward 61.9 → 84.4, strict 58.5 → 40.5"  # steps 1 and 2, 19 and 20
    assert missing.stages[0].after is None
    assert not missing.hacked


def test_a_run_without_rewards_of_its_own_has_no_such_page(tmp_path: Path):
    root = study_run(tmp_path)
    assert load_run(root).has_rewards
    plan = json.loads((root / "plan.json").read_text())
    for stage in plan["stages"]:
        stage["reward"] = None
    (root / "plan.json").write_text(json.dumps(plan))
    reseal(root)
    assert not load_run(root).has_rewards
    with pytest.raises(ValueError, match="no study of rewards"):
        print_study(root, Console(file=StringIO()))


def test_the_terminals_table_fits_80_columns(run: Path):
    screen = StringIO()
    print_study(run, Console(file=screen, width=80))
    text = screen.getvalue()
    lines = {line.split()[0]: line for line in reversed(text.splitlines()) if line.split()}
    assert lines["accuracy"].split()[1:] == ["67", "→", "100", "67", "→", "100", "67", "→", "100", "0", "→", "0"]
    assert lines["abstain"].rstrip().endswith("stage 1")
    assert "abstain: stage 1, answerable: reward up, accuracy down" in text
    assert "(predicted by the audit)" in " ".join(text.split())
