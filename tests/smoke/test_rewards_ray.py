"""math-verify where it fails by itself: in threads, in Ray actors, in forked children; and nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from rewards.maths import maths
from rewards.maths_process import shared
from rewards.score import Score

pytestmark = pytest.mark.smoke
HANGS = "9^{9^{9^{9}}}"


def say(answer: str, gold: str, **parameters: object) -> Score:
    return maths(answer, gold=[gold], read="whole", **parameters)


def test_threads_take_turns():
    scores: list[Score] = []
    threads = [threading.Thread(target=lambda i=i: scores.append(say(f"\\sqrt{{{i * i}}}", str(i)))) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [score.value for score in scores] == [1.0] * 6


def test_a_forked_child_has_a_worker_of_its_own():
    say("\\sqrt{4}", "2")  # a number would be compared without asking
    worker = shared.pid
    assert worker is not None
    child = os.fork()
    if child == 0:
        fine = shared.pid is None and shared.equal(["1/2"], "0.5", 60.0) and shared.pid not in (None, worker)
        shared.close()
        os._exit(0 if fine else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert shared.pid == worker
    assert say("\\sqrt{4}", "2").value == 1.0


@pytest.mark.parametrize("how", ["", "import os; os._exit(0)", "import os; os.kill(os.getpid(), 9)"])
def test_the_worker_ends_with_the_process_that_asked(how):
    ask = "from rewards.maths_process import shared; shared.equal(['1/2'], '0.5', 60.0); print(shared.pid, flush=True)"
    code = f"{ask}\n{how}"
    asked = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False, timeout=120)
    wait_for_the_end_of(int(asked.stdout))


def wait_for_the_end_of(pid: int) -> None:
    """Fails if it still runs after a minute."""
    for _ in range(600):
        if not alive(pid):
            return
        threading.Event().wait(0.1)
    pytest.fail(f"process {pid} still runs")


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet reaped does not."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def scorer() -> type:
    """A class of its own making: Ray sends it whole, where this file can't be imported."""

    class Scorer:
        """Scores in an actor, on whatever thread Ray calls it."""

        def score(self, answer: str, gold: str, limit: float) -> tuple[Score, bool]:
            import threading

            from rewards.maths import maths

            score = maths(answer, gold=[gold], read="whole", limit=limit)
            return score, threading.current_thread() is threading.main_thread()

        def worker(self) -> int | None:
            from rewards.maths_process import shared

            return shared.pid

    return Scorer


@pytest.mark.parametrize("threads", [1, 2])
def test_inside_a_ray_actor(ray_cluster: None, threads: int):
    import ray

    actor = ray.remote(num_cpus=0, max_concurrency=threads)(scorer()).remote()
    right, main = ray.get(actor.score.remote("\\sqrt{4}", "2", 60.0))
    assert main is (threads == 1)
    assert (right.value, right.status) == (1.0, "ok")
    hung, _ = ray.get(actor.score.remote(HANGS, "12", 0.5))
    assert hung.status == "timeout"
    after, _ = ray.get(actor.score.remote("\\sqrt{4}", "3", 60.0))
    assert (after.value, after.status) == (0.0, "ok")
    worker = ray.get(actor.worker.remote())
    assert alive(worker)
    ray.kill(actor)
    wait_for_the_end_of(worker)
