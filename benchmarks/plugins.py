"""Seconds of an optimizer step with each plug-in, as a ratio to the plain method's.

    python benchmarks/plugins.py --steps 12

Every plug-in trains the second of two stages, so that it has something to remember, beside a process that trains the
same stage without it. The two take turns step by step, so that whatever else the machine does slows both alike; the
table shows medians and their ratio. A learning rate of 1e-9 keeps all policies where they are.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

WARM_UP = 2
LORA = {"tuning": {"type": "lora", "r": 16}}
SFT: dict[str, dict[str, Any]] = {
    "kl exact": {"kl": {"estimator": "exact"}},
    "kl k3": {"kl": {"estimator": "k3"}},
    "kl exact, base": {"kl": {"estimator": "exact", "reference": "base"}},
    "kl exact, ema": {"kl": {"estimator": "exact", "reference": "ema"}},
    **{kind: {"regularisers": [{"type": kind}]} for kind in
       ("ewc", "mas", "l2", "lwf", "cpo", "a-gem", "der", "freeze-bottom", "hft")},
    "merge ema": {"merge": "ema"},
    "replay": {"replay": {"type": "buffer", "ratio": 0.25}},
    "recap": {"replay": {"type": "recap", "sampler": "proportional", "window": 1}},
    "o-lora": LORA | {"regularisers": [{"type": "o-lora"}]},
    "reg-lora": LORA | {"regularisers": [{"type": "reg-lora"}]},
}  # fmt: skip
GRPO: dict[str, dict[str, Any]] = {
    "kl exact": {"kl": {"estimator": "exact"}},
    "kl k3": {"kl": {"estimator": "k3"}},
    "kl k1 in the reward": {"kl": {"estimator": "k1", "in": "reward"}, "method": {"scale_rewards": "batch"}},
    "rapo": {"regularisers": [{"type": "rapo"}]},
    **{kind: {"regularisers": [{"type": kind}]} for kind in ("ewc", "l2", "lwf", "cpo", "a-gem", "der")},
    "replay": {"replay": {"type": "buffer", "ratio": 0.25}},
    "replay, supervised": {"replay": {"type": "buffer", "ratio": 0.25, "loss": "supervised"}},
    "recap": {"replay": {"type": "recap", "sampler": "proportional", "window": 1}},
}
METHODS: dict[str, dict[str, Any]] = {
    "sft": {"type": "sft", "per_device_train_batch_size": 64},
    "grpo": {"type": "grpo", "per_device_train_batch_size": 128, "num_generations": 8},
}


def main() -> None:
    """Measure, and print a row as soon as it is known."""
    options = arguments()
    from cpt.rollout.threads import trainer_env

    os.environ.update(trainer_env())  # before the children import anything
    print("| method | plug-in | ms a step, plain | ms a step | ratio | costs beyond the plain step |")
    print("|---|---|---|---|---|---|")
    for method, plugins in (("sft", SFT), ("grpo", GRPO)):
        for name, arm in plugins.items():
            if method in options.methods and (not options.only or name in options.only):
                plain, ours = measure(method, arm, options.steps)
                cost = extra_passes(method, arm)
                print(
                    f"| {method} | {name} | {1000 * plain:.0f} | {1000 * ours:.0f} | {ours / plain:.2f} | {cost} |",
                    flush=True,
                )


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12, help=f"measured, after {WARM_UP} to warm up")
    parser.add_argument("--methods", nargs="*", choices=tuple(METHODS), default=list(METHODS))
    parser.add_argument("--only", nargs="*", help="names of plug-ins")
    return parser.parse_args()


def measure(method: str, arm: dict[str, Any], steps: int) -> tuple[float, float]:
    """Median seconds of a step of the plain method, and with the plug-in."""
    context = multiprocessing.get_context("spawn")
    plain = {key: arm[key] for key in ("tuning", "method") if key in arm}
    contestants = []
    for one in (plain, arm):
        here, there = context.Pipe()
        process = context.Process(target=contestant, args=(method, one, steps, there))
        process.start()
        there.close()
        contestants.append((here, process))
    for pipe, _ in contestants:
        assert pipe.recv() == "ready"
    seconds: list[list[float]] = [[], []]
    for _ in range(WARM_UP + steps):
        for (pipe, _process), found in zip(contestants, seconds, strict=True):
            pipe.send("step")
            found.append(pipe.recv())
    for pipe, process in contestants:
        pipe.close()
        process.join()
    before, after = (statistics.median(found[WARM_UP:]) for found in seconds)
    return before, after


def contestant(method: str, arm: dict[str, Any], steps: int, pipe: Connection) -> None:
    """One training in a process of its own: a step for every word from the parent, which gets its seconds back."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - TRL prints its logs
    from cpt.rollout.engine import EngineSettings
    from cpt.rollout.local import LocalPool, build_engine
    from cpt.run.worker import import_trainers
    from cpt.store.folder import StageDir

    import_trainers()
    from cpt.train.stage import train_stage

    first, second = stages(method, arm, steps)
    pool = None
    if first.method.needs_pool:
        pool = LocalPool(build_engine("hf", EngineSettings(first.model.path)))
    turns = Turns(pipe)
    with tempfile.TemporaryDirectory() as folder:
        start = train_stage(first, start_folder=first.model.path, out=StageDir(Path(folder) / "1"), pool=pool).policy
        train_stage(second, start_folder=start, out=StageDir(Path(folder) / "2"), pool=pool, on_step=turns)
    os._exit(0)


class Turns:
    """Told of every step of a training; lets the next one begin when it is this training's turn.

    The first step is nobody's: it ends when the parent is told that the training is ready.
    """

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe
        self.begin: float | None = None

    def __call__(self, row: dict[str, Any]) -> None:
        """A step is over."""
        self.pipe.send("ready" if self.begin is None else time.perf_counter() - self.begin)
        try:
            self.pipe.recv()
        except EOFError:  # the end of the benchmark
            os._exit(0)
        self.begin = time.perf_counter()


def stages(method: str, arm: dict[str, Any], steps: int) -> Any:
    """Two stages: a short one to remember, and the one that is measured."""
    from dataclasses import replace

    from cpt.plan.make import make_plan
    from cpt.recipe import Recipe

    settings = METHODS[method] | arm.get("method", {})
    recipe = {
        "version": 1,
        "name": "benchmark",
        "model": "builtin/tiny-qwen2_5-vl",
        "tasks": ["which-row", "count-colour"],  # prompts alike in length: longer ones replayed would pad all rows
        "data": {"samples": 256},
        "drift": {"samples": 0},
        "arms": {"arm": arm | {"method": settings | {"learning_rate": 1e-9, "max_steps": WARM_UP + steps + 2}}},
    }
    first, second = make_plan(Recipe.model_validate(recipe)).stages
    return replace(first, steps=1), second


def extra_passes(method: str, arm: dict[str, Any]) -> str:
    """What the plug-in's setting says of its cost."""
    _, stage = stages(method, arm, 1)
    settings = [*stage.regularisers, *([] if stage.kl is None else [stage.kl])]
    said = "; ".join(one.extra_passes for one in settings if one.extra_passes)
    if stage.replay is not None and stage.replay.loss == "supervised":
        said = "forward and backward of the policy on the replayed rows"
    return said or "none"


if __name__ == "__main__":
    main()
