"""The process that a user's reward runs in: see `rewards.worker` for its protocol and `rewards.user_code` for its work.

A request is a pickled list (from the parent process) in base64: a method of `UserCode` and its arguments, or `open`
with path and text. Pickled, because a task may keep any object in `meta`.
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
    sys.path.append(str(Path(__file__).parents[1]))  # the folder of this package, after Python's own
    from rewards.user_code import UserCode, said

    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends it long after a limit that the parent does not enforce
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)  # the user's code must not read requests
    os.dup2(2, 1)  # its output is no answer
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
