"""Models give the same short answers again and again, and so does gold: what was made of one is kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar, cast

_KEPT = 8192
_F = TypeVar("_F", bound=Callable[..., Any])


def remembered(longest: int = 100) -> Callable[[_F], _F]:
    """Keeps the last results of a pure function for texts of at most `longest` characters, its first argument."""

    def remember(function: _F) -> _F:
        short = lru_cache(_KEPT)(function)

        @wraps(function)
        def call(text: str, *rest: Any) -> Any:
            return short(text, *rest) if len(text) <= longest else function(text, *rest)

        return cast(_F, call)

    return remember
