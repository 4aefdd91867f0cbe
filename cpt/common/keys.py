"""Keys of a recipe in messages: where one stands, its value as written, and the right spelling that is nearest."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection
from typing import Any

Key = str | int
KeyPath = tuple[Key, ...]
Problem = tuple[KeyPath, str]
"""The key to change, and what is wrong with it."""


def dotted(path: KeyPath) -> str:
    """A path as one writes it in an override, for a message: what is wrong has to have room beside it."""
    return shortened(".".join(map(str, path)), 200)


def shortened(text: str, most: int = 60) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"


def nearest(word: object, known: Collection[str], listed: Collection[str] = ()) -> str:
    """`; did you mean 'x'?`, or the list of what there is (of `known`, only those `listed`) when nothing is near."""
    close = difflib.get_close_matches(str(word)[:200], known, n=1, cutoff=0.6)
    close += [name for name in known if "".join(part[:1] for part in name.split("_")) == word]  # lr: learning_rate
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(listed or known)}" if known else ""


def shown(value: Any) -> str:
    """A value as YAML writes it; the beginning of a long one."""
    return shortened(json.dumps(value) if value is None or isinstance(value, bool) else repr(value), 80)
