"""math-verify in a worker process that can be killed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rewards.worker import Worker

_START_SECONDS = 120.0  # importing sympy on a busy machine


class MathsProcess(Worker):
    """One worker at most, started when first asked.

    math-verify's own time limit is `signal.alarm`, which works only on main threads, and neither it nor a thread can
    stop a power that is being computed in C.
    """

    def __init__(self) -> None:
        script = Path(__file__).with_name("maths_worker.py")
        super().__init__(script, "the process that runs math-verify", _START_SECONDS)

    def equal(self, gold: Sequence[str], answer: str, limit: float) -> bool:
        """Whether the answer is mathematically equal to one of the accepted ones.

        Args:
            limit: seconds for this one question; starting the worker does not count.

        Raises:
            TimeoutError: not decided within the limit. The worker is killed; the next question gets a new one.
            RuntimeError: math-verify raised, or the worker could not start or ended (crash, memory).
        """
        reply = self.ask(json.dumps({"gold": list(gold), "answer": answer, "limit": limit}).encode(), limit)
        if "error" in reply:
            raise RuntimeError(f"math-verify raised {reply['error']}")
        equal: bool = reply["equal"]
        return equal


shared = MathsProcess()
"""The worker of this process."""
