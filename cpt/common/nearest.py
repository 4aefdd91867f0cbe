"""What a misspelt word may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection


def nearest(word: object, known: Collection[str], listed: Collection[str] = ()) -> str:
    """`; did you mean 'x'?`, or the list of what there is (of `known`, only those `listed`) when nothing is near."""
    close = difflib.get_close_matches(str(word)[:200], known, n=1, cutoff=0.6)
    close += [name for name in known if "".join(part[:1] for part in name.split("_")) == word]  # lr: learning_rate
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(listed or known)}" if known else ""
