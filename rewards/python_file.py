"""Rewards that users write: a function in a file.

    # my_reward.py                               in a recipe: {type: python, file: my_reward.py, name: score, weight: 1}
    def score(completion, *, gold, bonus=0.5, **_):
        return 1.0 if completion == gold[0] else bonus

The function gets the completion and, by keyword, those of `rewards.registry.COLUMNS` that it names (all of them with
`**_`); every other keyword is a parameter, which the recipe sets. It returns a number in [0, 1] or a `Score`.

It runs in its own process, which is killed if one completion takes longer than 30 seconds (or `TIME_LIMIT` in the file)
or loading the file longer than 120: `sys.exit`, a crash or an endless loop is only an error on that completion. With
CPT_DEBUG=1 it runs in this process, so that a debugger can stop in it.

The file is only read: its text is compiled, so nothing is written beside it, and it can't import files beside it. A
recipe has the text as `source`, so a run can be repeated without the file.
"""

from __future__ import annotations

import base64
import os
import pickle
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from rewards.batch import guarded
from rewards.registry import COLUMNS, nearest
from rewards.score import Reward, Score
from rewards.user_code import SECONDS, Answer, UserCode, said
from rewards.worker import Worker

_START_SECONDS = 60.0
LOAD_SECONDS = 120.0  # a file may import torch and load a model


class PythonProcess:
    """A user's file in its own process, which is replaced if it hangs or ends."""

    def __init__(self, path: Path, source: str) -> None:
        self.path, self.source, self.seconds = path, source, SECONDS
        script = Path(__file__).with_name("python_worker.py")
        self.worker = Worker(script, f"the process that runs {path}", _START_SECONDS, shows=True)
        self._pid: int | None = None
        self._described: dict[str, Answer] = {}

    def describe(self, name: str) -> Answer:
        """See `UserCode.describe`."""
        try:
            with self.worker.turn:
                return self._with(name)
        except TimeoutError:
            return {"error": f"{self.path} can't be loaded: it did not end within {LOAD_SECONDS:g} s"}
        except RuntimeError as error:
            return {"error": f"{self.path} can't be loaded: {error}"}

    def score(self, name: str, completion: str, row: Mapping[str, Any], parameters: Mapping[str, Any]) -> Answer:
        """See `UserCode.score`. Fields of a failed Score where the process hangs or ends."""
        try:
            with self.worker.turn:
                found = self._with(name)
                return (
                    found if "error" in found else self._ask(self.seconds, "score", name, completion, row, parameters)
                )
        except TimeoutError as error:
            return _failed("timeout", str(error))
        except RuntimeError as error:
            return _failed("error", str(error))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            return _failed("error", f"this row can't be handed to it: {said(error)}")

    def _with(self, name: str) -> Answer:
        """The description of a function, in a process that has loaded the file."""
        if self._pid is None or self._pid != self.worker.pid:
            self._described = {}
            loaded = self._ask(LOAD_SECONDS, "open", self.path, self.source)
            if "error" in loaded:
                return loaded
            self.seconds, self._pid = loaded["seconds"], self.worker.pid
        if name not in self._described:
            self._described[name] = self._ask(LOAD_SECONDS, "describe", name)
        return self._described[name]

    def _ask(self, limit: float, *request: Any) -> Answer:
        return self.worker.ask(base64.b64encode(pickle.dumps([limit, *request])), limit)


def _failed(status: str, detail: str) -> Answer:
    return {"value": 0.0, "parts": {}, "extracted": "", "status": status, "detail": detail}


@lru_cache(maxsize=16)
def _running(path: Path, source: str, here: bool) -> PythonProcess | _Here:
    """The process for all rewards of one file."""
    return _Here(path, source) if here else PythonProcess(path, source)


class _Here(UserCode):
    """A user's file in this process, for a debugger."""

    loaded = False

    def describe(self, name: str) -> Answer:
        """See `UserCode.describe`."""
        answer = {} if self.loaded else self.load()
        self.loaded = "error" not in answer
        return super().describe(name) if self.loaded else answer


class PythonReward:
    """A user's function as a reward.

    Attributes:
        where: file and function, for messages.
        required: columns that a row has to have.
        doc: the function's docstring.
    """

    def __init__(self, path: Path, source: str, name: str, parameters: Mapping[str, Any]) -> None:
        self.name, self.where, self.parameters = name, f"{path}: {name}", dict(parameters)
        self._code = _running(path, source, bool(os.environ.get("CPT_DEBUG")))
        described = self._code.describe(name)
        if "error" in described:
            raise ValueError(described["error"])
        keywords: dict[str, bool] = described["keywords"]
        unknown = [key for key in parameters if key not in keywords or key in COLUMNS]
        if unknown:
            known = [key for key in keywords if key not in COLUMNS]
            raise ValueError(f"{self.where} has no parameter {unknown[0]!r}{nearest(unknown[0], known)}")
        needed = [key for key, has_default in keywords.items() if not has_default and key not in parameters]
        missing = [key for key in needed if key not in COLUMNS]
        if missing:
            raise ValueError(f"{self.where} needs {missing[0]!r}, which is no column; set it here{_near(missing[0])}")
        self.required, self.doc = frozenset(needed), str(described["doc"])

    def __call__(self, completion: str, **row: object) -> Score:
        """Its Score, with status error if it raised. ValueError if it returned anything that is not allowed."""
        answer = self._code.score(self.name, completion, row, self.parameters)
        if "error" in answer:
            raise ValueError(answer["error"])
        if "raised" in answer:
            return Score(0.0, status="error", detail=answer["raised"])
        return Score(**answer)


def load(component: Mapping[str, Any], folder: Path | None = None) -> PythonReward:
    """The reward of a component of type python.

    Args:
        component: `file` and `name`, optionally `source`, the file's text; everything else is a parameter.
        folder: the folder that `file` is relative to.

    Raises:
        ValueError: there is no such file or function, or it can't be a reward.
    """
    path, name, text = Path(folder or ".") / component["file"], component["name"], component.get("source")
    parameters = {key: value for key, value in component.items() if key not in ("file", "name", "source")}
    return PythonReward(path, read_source(path) if text is None else str(text), name, parameters)


def read_source(path: Path) -> str:
    """The text of a Python file. ValueError if there is none."""
    if not os.path.isfile(path):  # also if the name is too long for the file system
        raise ValueError(f"there is no file {path}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text in UTF-8") from None
    except OSError as error:
        raise ValueError(f"{path}: can't be read ({error.strerror})") from None


def try_out(reward: Reward, completion: str, row: Mapping[str, Any], where: str) -> None:
    """Score one completion twice.

    Raises:
        ValueError: it raised, returned no score, or two different ones. One line.
    """
    first = guarded(reward, completion, row)
    if first.failed:
        raise ValueError(f"{where}: a dry run on {completion[:60]!r} failed: {first.detail}")
    second = guarded(reward, completion, row)
    if first != second:
        raise ValueError(
            f"{where}: the same completion got {first.value:g}, then {second.value:g}; a reward has to be deterministic"
        )


def _near(name: str) -> str:
    found = nearest(name, COLUMNS)
    return f", or name a column{found}" if "did you mean" in found else ""
