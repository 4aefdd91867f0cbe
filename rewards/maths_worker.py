"""The process that math-verify runs in: one JSON object a line on stdin, one a line on stdout, in lockstep.

Request `{"gold": [...], "answer": "...", "limit": seconds}`, answer `{"equal": true}` or `{"error": "..."}`; the first
line out is `{"ready": true}`. `rewards.maths_process` starts it as a file of its own, so nothing of this package is
imported here. It ends with its stdin, and by itself long after a limit that nobody enforces any more.
"""

from __future__ import annotations

import json
import logging
import math
import os
import resource
import signal
import sys
from dataclasses import replace
from typing import Any

MEMORY_BYTES = 4 << 30
GRACE_SECONDS = 10


def main() -> None:
    """Answer requests until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the one who asks decides
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, in the midst of C code too
    _limit_memory()
    logging.disable(logging.CRITICAL)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    import math_verify  # type: ignore[import-untyped]  # noqa: F401  before the first question, whose time is limited

    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        signal.alarm(math.ceil(request["limit"]) + GRACE_SECONDS)
        answer = _answer(request["gold"], request["answer"])
        signal.alarm(0)
        print(json.dumps(answer), file=answers, flush=True)


def _limit_memory() -> None:
    """A power tower must not take the machine's memory along."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES if hard < 0 else min(MEMORY_BYTES, hard), hard))


def _answer(gold: list[str], answer: str) -> dict[str, object]:
    try:
        said = _parsed(answer)
        return {"equal": any(_equal(_parsed(accepted), said) for accepted in gold)}
    except Exception as error:  # noqa: BLE001  told to the one who asked, who counts it as an error of the reward
        return {"error": f"{type(error).__name__}: {error}"[:200]}


def _parsed(text: str) -> list[Any]:
    """The text as one LaTeX formula; empty if it is none.

    math-verify's other ways of reading look for the last number or formula in a text, fall back on the text itself,
    and drop units by a list in which "3c", "3 less" and "3 no change" are 3.
    """
    from math_verify import LatexExtractionConfig, parse

    rules = replace(LatexExtractionConfig().normalization_config, units=False, boxed="none")
    how = [LatexExtractionConfig(normalization_config=rules)]
    parsed: list[Any] = parse(f"${text}$", how, fallback_mode="no_fallback", parsing_timeout=None, raise_on_error=True)
    return parsed


def _equal(gold: list[Any], said: list[Any]) -> bool:
    """math-verify's verdict, without its own time limit: that calls a timeout a wrong answer."""
    from math_verify import verify

    equal: bool = verify(gold, said, timeout_seconds=None, raise_on_error=True)
    return equal


if __name__ == "__main__":
    main()
