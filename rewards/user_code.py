"""Runs a user's Python text as a module, and describes and calls its function. Any of this may fail.

It is called in its own process (`rewards.python_worker`), or in this one for a debugger. Answers are plain data.
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

from rewards.registry import nearest
from rewards.score import STATUSES, Score

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
SECONDS = 30.0
"""For one completion, unless the file says otherwise in `TIME_LIMIT`."""

Answer = dict[str, Any]


class UserCode:
    """The text of one file. Every method answers with `error` if the user has to fix something."""

    def __init__(self, path: Path, source: str) -> None:
        self.path, self.source = path, source
        self._module: ModuleType | None = None
        self._functions: dict[str, tuple[Callable[..., Any], frozenset[str] | None]] = {}

    def load(self) -> Answer:
        """Run it. `seconds`: the time limit for one completion."""
        module = ModuleType(f"python_reward_{hashlib.blake2b(self.source.encode(), digest_size=8).hexdigest()}")
        module.__file__ = str(self.path)
        sys.modules[module.__name__] = module  # dataclasses look their module up
        try:
            exec(compile(self.source, str(self.path), "exec"), vars(module))
        except SyntaxError as error:
            return {"error": f"{self.path}:{error.lineno}: {error.msg}"}
        except BaseException as error:  # noqa: BLE001  sent to the parent; sys.exit is one of these
            return {"error": f"{self.path} can't be loaded: {said(error)}"}
        seconds = vars(module).get("TIME_LIMIT", SECONDS)
        if not isinstance(seconds, int | float) or not 0 < seconds <= 86_400:
            return {"error": f"{self.path}: TIME_LIMIT has to be seconds, as in TIME_LIMIT = 30, not {seconds!r:.60}"}
        self._module = module
        return {"seconds": float(seconds)}

    def describe(self, name: str) -> Answer:
        """The function's keywords → whether they have a default; `any`: it takes others as well; its docstring."""
        assert self._module is not None
        function = vars(self._module).get(name)
        if function is None:
            functions = [one for one, thing in vars(self._module).items() if inspect.isfunction(thing)]
            return {"error": f"{self.path} has no function {name!r}{nearest(name, functions)}"}
        if not callable(function):
            return {"error": f"{self.path}: {name} is no function"}
        try:
            signature = inspect.signature(function)
        except (ValueError, TypeError):
            return {"error": f"{self.path}: {name} has no signature; write a plain function"}
        described = described_as(signature, f"{self.path}: {name}")
        if "error" not in described:
            described["doc"] = str(inspect.getdoc(function) or "")
            self._functions[name] = (function, None if described["any"] else frozenset(described["keywords"]))
        return described

    def score(self, name: str, completion: str, row: Mapping[str, Any], parameters: Mapping[str, Any]) -> Answer:
        """What the function says of a completion, as the fields of a Score; `raised`: an exception, as text."""
        function, taken = self._functions[name]
        if taken is not None:
            row = {key: value for key, value in row.items() if key in taken}
        try:
            found = function(completion, **{**row, **parameters})
            score = Score(float(found)) if isinstance(found, Real) else found
            if not isinstance(score, Score) or not (score.failed or 0 <= score.value <= 1):
                told = f"{self.path}: {name} returned {found!r:.200}"
                return {"error": f"{told}; it has to return a number in [0, 1] or a Score"}
            return _fields(score)
        except BaseException as error:  # noqa: BLE001  counted as an error of the reward
            return {"raised": said(error)}


def _fields(score: Score) -> Answer:
    """As JSON takes it."""
    assert score.status in STATUSES, f"a Score's status is one of {', '.join(STATUSES)}, not {score.status!r}"
    parts = {str(name): float(part) for name, part in score.parts.items()}
    texts = {"extracted": str(score.extracted), "detail": str(score.detail)}
    return {"value": float(score.value), "parts": parts, "status": score.status, **texts}


def described_as(signature: inspect.Signature, where: str) -> Answer:
    """What a function takes by keyword, after a check that the completion comes first."""
    parameters = list(signature.parameters.values())
    if not parameters or parameters[0].kind not in _POSITIONAL:
        return {"error": f"{where} has to take the completion first, as in `def score(completion, *, gold, **_)`"}
    rest = parameters[1:]
    if any(p.kind is p.POSITIONAL_ONLY and p.default is p.empty for p in rest):
        return {"error": f"{where} takes more than the completion by place; columns come by keyword"}
    named = [p for p in rest if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in rest)
    return {"keywords": {p.name: p.default is not p.empty for p in named}, "any": takes_any, "doc": ""}


def said(error: BaseException) -> str:
    """An exception in one line."""
    if isinstance(error, SystemExit):
        return f"it called sys.exit({error.code!r:.60})"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
