"""Seconds that `cpt rewards score` takes for many saved completions, start-up included, on one core.

    python benchmarks/rewards_score.py --rows 100000

The rows look like records of the built-in tasks: short answers in tags, right, wrong and malformed ones. Every reward
is a process of its own, bound to one core; the table shows the time of the whole command by the wall clock, and in
brackets the processor's, which tells what it would be on a core that nobody else uses.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cpt.store.records import write_records
from cpt.types import Record

REWARDS = ("exact", "normalised", "accuracy-format", "yes-no", "vqa", "anls", "rouge-l", "number", "choice")


def main() -> None:
    """Write the rows, time the rewards, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="the core to run on")
    parser.add_argument("--reward", nargs="*", default=REWARDS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "records.parquet", Path(folder) / "scored.parquet"
        print(f"| reward | {options.rows} rows, seconds | and --out |\n|---|---|---|")
        for reward in options.reward:
            write_records(path, rows(options.rows, reward))
            command = [sys.executable, "-m", "cpt.cli", "rewards", "score", str(path), "--reward", reward]
            plain, written = (seconds([*command, *more], options.core) for more in ([], ["--out", str(out), "--force"]))
            print(f"| {reward} | {plain} | {written} |", flush=True)


def seconds(command: list[str], core: int) -> str:
    """Wall-clock and processor time of a command on one core."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, preexec_fn=lambda: os.sched_setaffinity(0, {core}))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return f"{time.perf_counter() - start:.1f} ({busy:.1f})"


def rows(n: int, reward: str) -> list[Record]:
    """Records of one arm, the same for the same reward; 1 in 20 is not in the format."""
    rng = random.Random(reward)
    answers = {"yes-no": ["yes", "no"], "choice": ["A", "B", "C", "D"], "number": [str(i) for i in range(1000)]}
    known = answers.get(reward) or ["".join(rng.choices("abcdefgh", k=rng.randint(3, 12))) for _ in range(5000)]
    return [record(rng, i, known) for i in range(n)]


def record(rng: random.Random, i: int, known: list[str]) -> Record:
    """One of them: right in about two thirds."""
    gold = rng.choice(known)
    said = gold if rng.random() < 0.65 else rng.choice(known)
    text = f"the answer is {said}" if rng.random() < 0.05 else f"<answer> {said} </answer>"
    task = f"task-{i % 8}"
    return Record("sft", 0, 1, task, f"{task}/test/0/{i}", "What is it ?", text, "stop", said, [gold], 0, 0, 4)


if __name__ == "__main__":
    main()
