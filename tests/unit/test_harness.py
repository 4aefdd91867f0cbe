"""`cpt eval --via`: another program is found, run and read, or said to be missing, or its failure is shown."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from command import cpt
from folders import model_folder
from foreign_logs import LM_DATE, LMMS_DATE, chosen, lm_results, pope

from cpt.common.files import read_json
from cpt.evaluate.foreign.harness import model_class
from cpt.evaluate.foreign.read import read_log
from cpt.store.records import read_records

# An executable that notes its arguments and writes what it is told to below its --output_path.
FAKE = """\
#!{python}
import json, sys
from pathlib import Path
told = json.loads(Path(__file__).with_suffix(".json").read_text())
print("loading the model")
print("a warning", file=sys.stderr)
out = Path(sys.argv[sys.argv.index("--output_path") + 1]) / "policy"
Path(__file__).with_suffix(".args").write_text(json.dumps(sys.argv[1:]))
out.mkdir(parents=True, exist_ok=True)
for name, text in told["files"].items():
    (out / name).write_text(text)
if told["code"]:
    print("RuntimeError: out of memory")
sys.exit(told["code"])
"""


def fake(folder: Path, name: str, files: dict[str, Any], code: int = 0) -> Path:
    """A harness that is not one. Texts of several objects are lines."""
    path = folder / name
    path.write_text(FAKE.format(python=sys.executable))
    path.chmod(0o755)
    texts = {
        name: "".join(json.dumps(row) + "\n" for row in content) if isinstance(content, list) else json.dumps(content)
        for name, content in files.items()
    }
    path.with_suffix(".json").write_text(json.dumps({"files": texts, "code": code}))
    return path


LM_FILES = {
    f"results_{LM_DATE}.json": lm_results("arc", acc=True),
    f"samples_arc_{LM_DATE}.jsonl": [chosen(0, [-1.0, -2.0], 0, acc=1.0, f1=0.5), chosen(1, [-1.0, -2.0], 1, acc=0.0)],
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return model_folder(tmp_path / "model")


def test_its_samples_become_records_and_its_source_is_kept(tmp_path: Path, model: Path, capsys: Any):
    harness, out = fake(tmp_path, "lm-eval", LM_FILES), tmp_path / "out"
    asked = ["--tasks", "arc", "--limit", "2", "--model-args", "dtype=float32", "--harness-args", "--device cpu"]
    assert cpt("eval", str(model), "--via", "lm-eval", "--python", str(harness), *asked, "--out", str(out)) == 0
    assert json.loads(harness.with_suffix(".args").read_text()) == [
        *("--model", "hf", "--model_args", f"pretrained={model},dtype=float32", "--tasks", "arc", "--log_samples"),
        *("--output_path", str(out / "lm-eval"), "--limit", "2", "--device", "cpu"),
    ]
    records = read_records(out / "records.parquet")
    assert [(one.arm, one.task, one.sample_id, one.score, one.metric) for one in records] == [
        (str(model), "arc", "arc/0", 1.0, "lm-eval:arc/acc"),
        (str(model), "arc", "arc/1", 0.0, "lm-eval:arc/acc"),
    ]
    about = read_json(out / "harness.json", sealed=True)
    assert (about["harness"], about["version"], about["asked"]["tasks"]) == ("lm-eval", "0.4.13", ["arc"])
    scored = about["scored"]["arc"]
    assert (scored["metric"], scored["task_version"], scored["means"]) == ("lm-eval:arc/acc", "2.0", {"acc,none": 0.5})
    assert scored["config"]["task"]["dataset_path"] == "json"
    assert (out / "lm-eval.log").read_text().splitlines()[:1] == ["loading the model"]
    assert "a warning" in (out / "lm-eval.log").read_text()
    shown = capsys.readouterr().out
    assert "arc" in shown and "0.500" in shown


def test_only_what_this_evaluation_has_written_counts(tmp_path: Path, model: Path):
    harness, out = fake(tmp_path, "lm-eval", LM_FILES), tmp_path / "out"
    command = ["eval", str(model), "--via", "lm-eval", "--python", str(harness), "--tasks", "arc", "--out", str(out)]
    assert cpt(*command) == 0
    older = out / "lm-eval" / "policy"
    for path in list(older.iterdir()):
        path.rename(older / path.name.replace("2026", "2025"))
    assert cpt(*command) == 0
    assert len(read_records(out / "records.parquet")) == 2


def test_lmms_eval_names_its_version_only_to_its_python(tmp_path: Path, model: Path):
    """Its results say unknown@unknown. What the sidecar knows is known to an import from there."""
    rows = [pope(0, 1.0), pope(1, 0.0)]
    results = {"results": {"pope": {}}, "configs": {"pope": {}}, "versions": {}, "lmms_eval_version": "unknown@unknown"}
    files = {f"{LMMS_DATE}_results.json": results, f"{LMMS_DATE}_samples_pope.jsonl": rows}
    harness = fake(tmp_path, "lmms-eval", files)
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 0.7.3\n")
    python.chmod(0o755)
    out = tmp_path / "out"
    asked = ["--python", str(harness), "--tasks", "pope", "--out", str(out)]
    assert cpt("eval", str(model), "--via", "lmms-eval", *asked) == 0
    assert json.loads(harness.with_suffix(".args").read_text())[:2] == ["--model", "qwen2_5_vl"]
    (samples,) = out.rglob("*_samples_pope.jsonl")
    assert read_log(samples).source == "lmms-eval 0.7.3"
    samples.write_text(samples.read_text().replace("Yes", "No!"))
    with pytest.raises(ValueError, match=r"_samples_pope\.jsonl is not what the run wrote"):
        read_log(samples)


def test_a_harness_that_is_not_installed_says_what_to_install(
    tmp_path: Path, model: Path, capsys: Any, monkeypatch: Any
):
    monkeypatch.setenv("PATH", str(tmp_path))
    out = tmp_path / "out"
    for asked in (["eval", "no-such-model"], ["eval", str(model)]):
        assert cpt(*asked, "--via", "lmms-eval", "--tasks", "pope", "--out", str(out)) == 2
        assert "lmms-eval is not installed; pip install lmms-eval" in capsys.readouterr().err
    python = tmp_path / "python3"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    assert cpt("eval", str(model), "--via", "lm-eval", "--python", str(python), "--tasks", "a", "--out", str(out)) == 2
    assert f"lm-eval is not installed for {python}; {python} -m pip install lm-eval" in capsys.readouterr().err
    assert not out.exists()


def test_it_is_found_on_the_search_path(tmp_path: Path, model: Path, monkeypatch: Any):
    fake(tmp_path, "lm-eval", LM_FILES)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cpt("eval", str(model), "--via", "lm-eval", "--tasks", "arc", "--out", str(tmp_path / "out")) == 0


@pytest.mark.parametrize(
    ("files", "code", "told"),
    [
        ({}, 3, "lm-eval ended with exit code 3; its last lines"),
        ({}, 0, "lm-eval has logged no samples; its last lines"),  # lmms-eval ends so when an evaluation has failed
        (LM_FILES, 0, "lm-eval has not evaluated boolq; its last lines"),
        (
            {**LM_FILES, f"results_{LM_DATE}.json": {**lm_results("arc"), "configs": {"arc": {}, "piqa": {}}}},
            *(0, "lm-eval has logged no samples of piqa; its last lines"),
        ),
    ],
)
def test_a_harness_that_fails_shows_its_last_lines(
    tmp_path: Path, model: Path, capsys: Any, files: dict[str, Any], code: int, told: str
):
    harness, out = fake(tmp_path, "lm-eval", files, code), tmp_path / "out"
    tasks = "arc,boolq" if "boolq" in told else "arc"
    asked = ["--python", str(harness), "--tasks", tasks, "--out", str(out)]
    assert cpt("eval", str(model), "--via", "lm-eval", *asked) == 1
    error = capsys.readouterr().err
    assert told in error and str(out / "lm-eval.log") in error and "loading the model" in error
    assert ("out of memory" in error) == bool(code)
    assert not (out / "records.parquet").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--via", "lm-eval", "--out", "o"], "--via lm-eval needs --tasks"),
        (["--via", "lm-eval", "--tasks", "arc"], "--via lm-eval needs --out"),
        (["--via", "lm-eval", "--task", "choice", "--tasks", "arc", "--out", "o"], "give its own with --tasks"),
        (
            ["--via", "lm-eval", "--samples", "4", "--tasks", "arc", "--out", "o"],
            "--samples: with --via lm-eval it is --limit",
        ),
        (
            ["--via", "lm-eval", "--max-tokens", "4", "--tasks", "arc", "--out", "o"],
            "--max-tokens says nothing to lm-eval",
        ),
        (["--limit", "3"], "--limit goes with --via"),
        (["--via", "lm-eval", "--tasks", "arc", "--out", "a,b"], "can't be given a path with a comma"),
        (["--via", "lm-eval", "--tasks", "arc", "--out", "o", "--python", "none"], "not an executable file"),
    ],
)
def test_what_does_not_go_together(
    tmp_path: Path, model: Path, capsys: Any, monkeypatch: Any, arguments: list[str], told: str
):
    fake(tmp_path, "lm-eval", LM_FILES)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert cpt("eval", str(model), *arguments) == 2
    assert told in capsys.readouterr().err


def test_what_a_harness_calls_a_kind_of_model(tmp_path: Path):
    def folder(name: str, **config: Any) -> Path:
        path = tmp_path / name
        path.mkdir()
        (path / "config.json").write_text(json.dumps(config))
        return path

    text, llava = folder("text", model_type="llama"), folder("llava", model_type="llava", vision_config={})
    assert [model_class("lm-eval", one) for one in (text, llava)] == ["hf", "hf-multimodal"]
    assert [model_class("lmms-eval", one) for one in (text, llava)] == ["llama", "llava_hf"]
    with pytest.raises(ValueError, match="not on this machine yet; --harness-model says what lmms-eval calls"):
        model_class("lmms-eval", "somebody/something")
