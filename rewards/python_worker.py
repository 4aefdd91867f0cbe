"""The process that a user's reward runs in: see `rewards.worker` for how it is asked, `rewards.user_code` for what.

A request is a pickled list (from the process that has started this one) in base64: a method of `UserCode` and its
arguments, or `open` with path and text. Pickled, because a row may hold whatever a task keeps in `meta`.
"""

from __future__ import annotations

import base64
import json
import math
import os
import pickle
import signal
import sys
from pathlib import Path
from typing import Any

GRACE_SECONDS = 10


def main() -> None:
    """Answer requests until stdin ends."""
    sys.path.append(str(Path(__file__).parents[1]))  # where this package is, after all that Python has by itself
    from rewards.user_code import UserCode, said

    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, long after a limit that nobody enforces any more
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)  # what the user's code reads is no request
    os.dup2(2, 1)  # and what it prints is no answer
    print(json.dumps({"ready": True}), file=answers, flush=True)
    code: Any = None
    for line in requests:
        limit, what, *arguments = pickle.loads(base64.b64decode(line))
        signal.alarm(math.ceil(limit) + GRACE_SECONDS)
        if what == "open":
            code = UserCode(*arguments)
            answer = code.load()
        else:
            answer = getattr(code, what)(*arguments)
        signal.alarm(0)
        try:
            text = json.dumps(answer)
        except Exception as error:  # noqa: BLE001  a Score may hold anything
            text = json.dumps({"raised": said(error)})
        print(text, file=answers, flush=True)


if __name__ == "__main__":
    main()
