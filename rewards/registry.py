"""Every reward by name, with its parameters and its source.

A reward is a function of a completion and keywords. Keywords named in `COLUMNS` are the sample's (one without a default
has to be there); `**_` takes those that it has no use for. All other keywords are parameters, with defaults, set once
by `make`:

    @reward("starts-with", source="docs/rewards.md", formula="1 if the answer starts with the gold one, else 0")
    def starts_with(completion: str, *, gold: Sequence[str], ignore_case: bool = True, **_: object) -> Score:
        '''First line: what it measures. A paragraph `Limits:` says what it gets wrong.'''
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_type_hints

from pydantic import ConfigDict, ValidationError, create_model

from rewards.score import Reward, Score

if TYPE_CHECKING:
    from pydantic import BaseModel

COLUMNS: Mapping[str, str] = {
    "gold": "accepted answers; all of the annotators' answers for consensus metrics",
    "candidates": "every answer that the question admits, if known",
    "choices": "the options' texts in the order of their letters, for multiple choice",
    "question": "the user's words",
    "template": "the asked-for format: direct, think, think_boxed, boxed, plain or think_plain",
    "finish_reason": "stop where the completion ended by itself, length when the token limit cut it off",
    "n_tokens": "length of the completion in tokens",
    "max_tokens": "the token limit",
    "meta": "what the task knows beyond all that",
}
Family = Literal["answer", "format", "shaping", "composite"]
CheckGold = Callable[..., str]

_MODULES = (
    *("answers", "choice", "numbers", "maths", "vqa", "text", "boxes", "collections"),
    *("released", "containment", "captions", "simplification", "benchmarks", "ifeval"),
    *("format", "shaping", "papers"),
)
_entries: dict[str, Entry] = {}
_F = TypeVar("_F", bound=Callable[..., Score])


@dataclass(frozen=True)
class Entry:
    """One reward of the registry."""

    name: str
    function: Callable[..., Score]
    family: Family
    source: str
    formula: str
    check_gold: CheckGold | None = None

    @cached_property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """What `make` can set, by name."""
        return {name: p for name, p in self._keywords.items() if name not in COLUMNS}

    @cached_property
    def required(self) -> tuple[str, ...]:
        """Columns that a row has to have."""
        return tuple(n for n, p in self._keywords.items() if n in COLUMNS and p.default is inspect.Parameter.empty)

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    @property
    def limits(self) -> str:
        """The paragraph of its docstring that starts with `Limits:`, without that word."""
        paragraphs = (inspect.getdoc(self.function) or "").split("\n\n")
        found = [p.removeprefix("Limits:") for p in paragraphs if p.startswith("Limits:")]
        return " ".join(" ".join(found).split())

    @cached_property
    def _keywords(self) -> dict[str, inspect.Parameter]:
        signature = inspect.signature(self.function)
        return {n: p for n, p in signature.parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}

    @cached_property
    def schema(self) -> type[BaseModel]:
        """Checks parameters by the function's annotations; unknown ones are refused."""
        hints = get_type_hints(self.function, include_extras=True)
        fields: dict[str, Any] = {name: (hints[name], p.default) for name, p in self.parameters.items()}
        return create_model(self.name, __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=True), **fields)


def reward(
    name: str, *, source: str, formula: str, family: Family = "answer", check_gold: CheckGold | None = None
) -> Callable[[_F], _F]:
    """Enters a function into the registry.

    Args:
        name: its name in recipes, lower case with hyphens or underscores.
        source: where the rule comes from: arXiv id and equation, a metric's official code, or a page of the docs.
        formula: the value in one line.
        family: answer (is it right), format, shaping (length and repetition), composite.
        check_gold: takes the keywords that the reward takes and says what is wrong with the row's gold answers, as in
            "gold answer 'red' holds no number", or nothing. It is asked for every row before anything is scored or
            trained (`rewards.golds`).
    """

    def enter(function: _F) -> _F:
        assert name not in _entries, f"two rewards are called {name}"
        _entries[name] = Entry(name, function, family, source, formula, check_gold)
        return function

    return enter


def names() -> list[str]:
    """Every reward's name, in the registry's order."""
    _load()
    # An imported module of rewards has entered them already; the order is still that of `_MODULES`.
    order = {f"rewards.{module}": i for i, module in enumerate(_MODULES)}
    return sorted(_entries, key=lambda name: order.get(_entries[name].function.__module__, len(order)))


def get(name: str) -> Entry:
    """The reward of this name. ValueError names the nearest one if there is none."""
    _load()
    if name not in _entries:
        raise ValueError(f"there is no reward called {name!r}{nearest(name, _entries)}")
    return _entries[name]


def entry_of(function: Callable[..., Any]) -> Entry | None:
    """The entry of a registered function; None for any other."""
    return next((entry for entry in _entries.values() if entry.function is function), None)


def make(name: str, **parameters: Any) -> Reward:
    """The reward with these parameters; others have their defaults.

    Raises:
        ValueError: there is no such reward or parameter, or a value has the wrong type.
    """
    entry = get(name)
    unknown = [key for key in parameters if key not in entry.parameters]
    if unknown:
        raise ValueError(f"reward {name} has no parameter {unknown[0]!r}{nearest(unknown[0], entry.parameters)}")
    try:
        checked = entry.schema.model_validate(parameters)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise ValueError(f"reward {name}, {key}: {first['msg']}, not {first['input']!r}") from None
    return partial(entry.function, **{key: getattr(checked, key) for key in entry.parameters})


def nearest(word: str, known: Collection[str]) -> str:
    """`; did you mean 'x'?`, or the list of all names if none is similar."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known) or 'none'}"


@cache
def _load() -> None:
    """Import the modules that enter rewards, in the order in which tables show them."""
    for module in _MODULES:
        import_module(f"rewards.{module}")
