"""lm-eval and lmms-eval as programs: found, run with their per-sample logs on, and these logs read.

They run in a process of their own, in whatever environment they are installed, since what they require often conflicts
with what cpt requires.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from cpt.common.errors import RunFailed
from cpt.common.files import read_json
from cpt.evaluate.foreign.log import ForeignLog
from cpt.evaluate.foreign.samples import LM_EVAL, LMMS_EVAL, RESULTS, SAMPLES, read_samples
from cpt.models.locate import hub_folder, read_config

Via = Literal["lmms-eval", "lm-eval"]
MODULES = {LM_EVAL: "lm_eval", LMMS_EVAL: "lmms_eval"}
# lmms-eval has a class per family, mostly called as transformers calls it; lm-eval one for all.
_MODELS = {"llava": "llava_hf", "llava_next": "llava_hf", "llava_onevision": "llava_hf"}
_LAST_LINES = 12
_PROBE = "import sys; from importlib.metadata import version; print(version(sys.argv[1]))"


@dataclass(frozen=True)
class Harness:
    """An installed one.

    Attributes:
        command: starts it.
        version: empty where only it knows.
    """

    name: Via
    command: tuple[str, ...]
    version: str


def find_harness(name: Via, python: Path | None = None) -> Harness:
    """The harness in this environment, on the search path, or where it is said to be.

    Args:
        python: the Python that it is installed for, or its own executable.

    Raises:
        ValueError: it is not installed; the message says how it can be.
    """
    module = MODULES[name]
    if python is not None:
        return _given(name, python)
    if importlib.util.find_spec(module) is not None:
        return Harness(name, (sys.executable, "-m", module), metadata.version(module))
    found = shutil.which(name)
    if found is None:
        raise ValueError(
            f"{name} is not installed; pip install {name}, best in an environment of its own, and name that "
            "environment's Python with --python"
        )
    return _given(name, Path(found))


def _given(name: Via, python: Path) -> Harness:
    if not python.is_file() or not os.access(python, os.X_OK):
        raise ValueError(f"--python {python}: not an executable file; give the Python that {name} is installed for")
    if not python.name.startswith("python"):
        beside = python.parent / "python"
        return Harness(name, (str(python),), _installed(name, beside) or "" if beside.exists() else "")
    version = _installed(name, python)
    if version is None:
        raise ValueError(f"{name} is not installed for {python}; {python} -m pip install {name}")
    return Harness(name, (str(python), "-m", MODULES[name]), version)


def _installed(name: Via, python: Path) -> str | None:
    done = subprocess.run([str(python), "-c", _PROBE, MODULES[name]], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def model_class(name: Via, model: Path | str) -> str:
    """What the harness calls the code that loads a model: a folder, or an id on the Hub.

    Raises:
        ValueError: nothing is known of the model yet.
    """
    folder = model if isinstance(model, Path) else hub_folder(model)
    if folder is None:
        raise ValueError(f"{model}: not on this machine yet; --harness-model says what {name} calls such models")
    config = read_config(folder)
    if name == LM_EVAL:  # the second one answers text alone as the first does
        return "hf-multimodal" if "vision_config" in config else "hf"
    kind = str(config.get("model_type"))
    return _MODELS.get(kind, kind)


def run_harness(
    harness: Harness,
    source: Path | str,
    tasks: Sequence[str],
    out: Path,
    *,
    model: str,
    model_args: str = "",
    limit: int | None = None,
    further: Sequence[str] = (),
) -> list[ForeignLog]:
    """Evaluate a model folder, or an id on the Hub, and read what is logged of every sample.

    There is one log per task; groups are taken apart.
    Its output is in `<out>/<name>.log`, its own files are below `<out>/<name>`.

    Args:
        model: see `model_class`.
        model_args: further arguments of the model, `key=value,…`.
        limit: samples per task.
        further: whatever else its command line is to have.

    Raises:
        ValueError: a path that the harness can't be given, or a log that can't be read.
        RunFailed: it failed. lmms-eval ends with exit code 0 even then: what counts is what it has written.
    """
    results, log = out / harness.name, out / f"{harness.name}.log"
    for path in (source, results.absolute()):
        if set(",=") & set(str(path)):
            raise ValueError(f"{path}: {harness.name} can't be given a path with a comma or an equals sign")
    results.mkdir(parents=True, exist_ok=True)
    before = set(results.rglob("*"))
    arguments = ["--model", model, "--model_args", ",".join(filter(None, [f"pretrained={source}", model_args]))]
    arguments += ["--tasks", ",".join(tasks), "--log_samples", "--output_path", str(results.absolute())]
    arguments += [] if limit is None else ["--limit", str(limit)]
    with log.open("wb") as handle:
        done = subprocess.run(
            [*harness.command, *arguments, *further],
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"},
            check=False,
        )
    new = sorted(path for path in results.rglob("*") if path not in before and path.is_file())
    files = [path for path in new if SAMPLES[harness.name].fullmatch(path.name)]
    if done.returncode or not files:
        ending = f"ended with exit code {done.returncode}" if done.returncode else "has logged no samples"
        raise RunFailed(_failed(harness, log, ending))
    logs = [read_samples(path, harness.version) for path in files]
    if gone := [task for task in tasks if task not in _evaluated(harness, files[0])]:
        raise RunFailed(_failed(harness, log, f"has not evaluated {', '.join(gone)}"))
    if gone := sorted(_expected(harness, files[0]) - {one.task for one in logs}):
        raise RunFailed(_failed(harness, log, f"has logged no samples of {', '.join(gone)}"))
    return logs


def results_of(harness: str, samples: Path) -> Path:
    """The results file that belongs to a file of samples."""
    named = SAMPLES[harness].fullmatch(samples.name)
    assert named is not None
    return samples.with_name(RESULTS[harness].format(date=named["date"]))


def _results(harness: Harness, samples: Path) -> dict[str, Any]:
    path = results_of(harness.name, samples)
    return read_json(path, advice="see the log beside it") if path.exists() else {}


def _expected(harness: Harness, samples: Path) -> set[str]:
    """Every task that it says to have evaluated."""
    return set(_results(harness, samples).get("configs", {}))


def _evaluated(harness: Harness, samples: Path) -> set[str]:
    """Tasks, groups and tags by which its tasks may have been asked for."""
    found = _results(harness, samples)
    names = {*found.get("results", {}), *found.get("groups", {}), *found.get("group_subtasks", {})}
    for config in found.get("configs", {}).values():
        tags = config.get("tag") or [] if isinstance(config, dict) else []
        names |= {tags} if isinstance(tags, str) else set(tags)
    return names


def _failed(harness: Harness, log: Path, ending: str) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    shown = [line for line in lines if line.strip()][-_LAST_LINES:]
    return "\n".join([f"{harness.name} {ending}; its last lines, the rest is in {log}:", *shown])
