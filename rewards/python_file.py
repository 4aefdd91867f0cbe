"""Rewards that users write: a function in a file of theirs.

    # my_reward.py                               in a recipe: {type: python, file: my_reward.py, name: score, weight: 1}
    def score(completion, *, gold, bonus=0.5, **_):
        return 1.0 if completion == gold[0] else bonus

The function gets the completion and, by keyword, those of `rewards.registry.COLUMNS` that it names (all of them with
`**_`); every other keyword is a parameter, set where the reward is. It returns a number in [0, 1] or a `Score`.

The file is only read: its text is compiled here, so nothing is written beside it and it can't be a package with
neighbours to import. A recipe carries that text along as `source`, so a run can be repeated without the file.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any

from rewards.registry import COLUMNS, nearest
from rewards.score import Reward, Score

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class PythonReward:
    """A user's function as a reward.

    Attributes:
        where: file and function, for messages.
        required: columns that a row has to have.
    """

    def __init__(self, function: Callable[..., Any], where: str, parameters: Mapping[str, Any]) -> None:
        self.function, self.where, self.parameters = function, where, dict(parameters)
        keywords = _keywords(function, where)
        unknown = [name for name in parameters if name not in keywords or name in COLUMNS]
        if unknown:
            known = [name for name in keywords if name not in COLUMNS]
            raise ValueError(f"{where} has no parameter {unknown[0]!r}{nearest(unknown[0], known)}")
        needed = [name for name, p in keywords.items() if p.default is p.empty and name not in parameters]
        missing = [name for name in needed if name not in COLUMNS]
        if missing:
            raise ValueError(f"{where} needs {missing[0]!r}, which is no column; set it here{_near(missing[0])}")
        self.required = frozenset(needed)
        takes_all = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(function).parameters.values())
        self._taken = None if takes_all else frozenset(keywords)

    def __call__(self, completion: str, **row: object) -> Score:
        """Its Score. ValueError if it returned anything else than a Score or a number in [0, 1]."""
        if self._taken is not None:
            row = {name: value for name, value in row.items() if name in self._taken}
        said = self.function(completion, **{**row, **self.parameters})
        score = Score(float(said)) if isinstance(said, Real) else said
        if not isinstance(score, Score) or not (score.failed or 0 <= score.value <= 1):
            raise ValueError(f"{self.where} returned {said!r}; it has to return a number in [0, 1] or a Score")
        return score


def load(component: Mapping[str, Any], folder: Path | None = None) -> PythonReward:
    """The reward of a component of type python.

    Args:
        component: `file` and `name`, optionally `source`, the file's text; everything else is a parameter.
        folder: what `file` is relative to.

    Raises:
        ValueError: no such file or function, it can't be run, or it can't be called as a reward. One line.
    """
    file, name = component["file"], component["name"]
    path = (folder or Path()) / file
    text = component.get("source")
    module = _module(path, read_source(path) if text is None else text)
    function = vars(module).get(name)
    if function is None:
        functions = [one for one, thing in vars(module).items() if inspect.isfunction(thing)]
        raise ValueError(f"{path} has no function {name!r}{nearest(name, functions)}")
    if not callable(function):
        raise ValueError(f"{path}: {name} is no function")
    parameters = {key: value for key, value in component.items() if key not in ("file", "name", "source")}
    return PythonReward(function, f"{path}: {name}", parameters)


def read_source(path: Path) -> str:
    """The text of a Python file. ValueError if there is none."""
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text in UTF-8") from None


def try_out(reward: Reward, completion: str, row: Mapping[str, Any], where: str) -> None:
    """Score one completion twice.

    Raises:
        ValueError: it raised, returned no score, or said two different things. One line.
    """
    from rewards.batch import guarded

    first, second = (guarded(reward, completion, row) for _ in range(2))
    if first.failed:
        raise ValueError(f"{where}: a dry run on {completion[:60]!r} failed: {first.detail}")
    if first != second:
        raise ValueError(
            f"{where}: the same completion got {first.value:g}, then {second.value:g}; a reward has to be deterministic"
        )


def required_columns(reward: Reward) -> frozenset[str]:
    """Columns that a row has to have for this reward: its own word, or its keywords without a default."""
    known: frozenset[str] | None = getattr(reward, "required", None)
    if known is not None:
        return known
    parameters = inspect.signature(reward).parameters.items()
    return frozenset(name for name, p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty)


def _module(path: Path, source: str) -> ModuleType:
    """The file's text, run as a module of its own that nothing else can import by accident."""
    module = ModuleType(f"python_reward_{hashlib.blake2b(source.encode(), digest_size=8).hexdigest()}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look their module up
    try:
        exec(compile(source, str(path), "exec"), vars(module))
    except SyntaxError as error:
        raise ValueError(f"{path}:{error.lineno}: {error.msg}") from None
    except Exception as error:
        raise ValueError(f"{path} can't be loaded: {type(error).__name__}: {_line(error)}") from error
    return module


def _keywords(function: Callable[..., Any], where: str) -> dict[str, inspect.Parameter]:
    """What a function takes by keyword, after a check that the completion comes first."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:
        raise ValueError(f"{where} has no signature; write a plain function") from None
    if not parameters or parameters[0].kind not in _POSITIONAL:
        raise ValueError(f"{where} has to take the completion first, as in `def score(completion, *, gold, **_)`")
    rest = parameters[1:]
    if any(p.kind is p.POSITIONAL_ONLY and p.default is p.empty for p in rest):
        raise ValueError(f"{where} takes more than the completion by place; columns come by keyword")
    return {p.name: p for p in rest if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}


def _near(name: str) -> str:
    found = nearest(name, COLUMNS)
    return f", or name a column{found}" if "did you mean" in found else ""


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
