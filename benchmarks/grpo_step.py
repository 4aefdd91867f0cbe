"""Seconds of a GRPO step by phase: cpt with each of its engines beside TRL's own GRPOTrainer.

    python benchmarks/grpo_step.py --steps 10

All train the same model on the same prompts with one batch size, completion limit, optimizer and number of threads,
each in a process of its own. They take turns step by step, so that whatever else the machine does slows all of them
alike; the table shows medians. "TRL" is GRPOTrainer with Hugging Face generation as it comes, in the configuration that
`cpt.train.grpo` gives it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

PHASES = ("push", "rollout", "old_logprobs", "forward_backward", "optimizer", "rest")
NAMES = {"trl": "TRL GRPOTrainer", "hf": "cpt, engine hf", "vllm": "cpt, engine vllm"}


def main() -> None:
    """Run the contestants and print the table."""
    options = arguments()
    rows = measure(options)
    print(table(rows))
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=2) + "\n")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="builtin/tiny-qwen2_5-vl")
    parser.add_argument("--task", default="count-colour")
    parser.add_argument("--prompt", default="think", choices=("direct", "think"))
    parser.add_argument("--completions", type=int, default=128, help="per step")
    parser.add_argument("--generations", type=int, default=8, help="completions per prompt")
    parser.add_argument("--max-tokens", type=int, default=32, help="limit of a completion")
    parser.add_argument("--steps", type=int, default=10, help="measured, after two to warm up")
    parser.add_argument("--only", nargs="*", choices=tuple(NAMES), default=list(NAMES))
    parser.add_argument("--json", help="also write the numbers to this file")
    return parser.parse_args()


def measure(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Median seconds per phase and mean completion length of every contestant."""
    from cpt.rollout.threads import trainer_env

    os.environ.update(trainer_env())  # before the children import anything
    context = multiprocessing.get_context("spawn")
    contestants = {}
    for name in options.only:
        here, there = context.Pipe()
        process = context.Process(target=contestant, args=(name, options, there))
        process.start()
        there.close()
        assert here.recv() == "ready"
        contestants[name] = (here, process)
    steps: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
    for number in range(options.steps + 2):
        for name, (pipe, _) in contestants.items():
            pipe.send("step")
            step = pipe.recv()
            if number >= 2:
                steps[name].append(step)
        print(f"step {number + 1} of {options.steps + 2}", end="\r", file=sys.stderr, flush=True)
    for pipe, process in contestants.values():
        pipe.close()
        process.join()
    return {
        name: {key: statistics.median(step[key] for step in found) for key in found[0]} for name, found in steps.items()
    }


def table(rows: dict[str, dict[str, float]]) -> str:
    """The numbers as text; ratios are to TRL's whole step."""
    lines = ["| milliseconds a step | " + " | ".join((*PHASES, "whole step", "÷ TRL", "tokens a step")) + " |"]
    lines.append("|" + "---|" * (len(PHASES) + 4))
    reference = rows.get("trl", {}).get("step")
    for name, row in rows.items():
        cells = [f"{1000 * row[phase]:.0f}" if row[phase] else "–" for phase in PHASES]
        ratio = f"{row['step'] / reference:.2f}" if reference else "n/a"
        cells += [f"{1000 * row['step']:.0f}", ratio, f"{row['tokens']:.0f}"]
        lines.append("| " + " | ".join((NAMES[name], *cells)) + " |")
    return "\n".join(lines)


def contestant(name: str, options: argparse.Namespace, pipe: Connection) -> None:
    """One trainer's process: a step for every word from the parent, which gets the step's seconds back."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - TRL prints its logs
    with tempfile.TemporaryDirectory() as folder:
        stage = plan(options)
        trainer = stock_trainer(stage, Path(folder)) if name == "trl" else our_trainer(stage, Path(folder), name)
        trainer.add_callback(turns(trainer, pipe))
        trainer.train()
    os._exit(0)  # nothing to tidy up: Ray's processes end with this one


def plan(options: argparse.Namespace) -> Any:
    """The stage that all contestants train: a learning rate so small that the policy stays what it is."""
    from cpt.plan.make import make_plan
    from cpt.recipe import Recipe

    method = {
        "type": "grpo",
        "max_steps": options.steps + 3,
        "learning_rate": 1e-9,
        "per_device_train_batch_size": options.completions,
        "num_generations": options.generations,
        "max_completion_length": options.max_tokens,
    }
    recipe = {
        "version": 1,
        "name": "benchmark",
        "model": {"name_or_path": options.model},
        "tasks": [options.task],
        "data": {"samples": options.completions // options.generations * (options.steps + 3)},
        "prompt": options.prompt,
        "arms": {"grpo": {"method": method}},
    }
    (stage,) = make_plan(Recipe.model_validate(recipe)).stages
    return stage


def our_trainer(stage: Any, folder: Path, engine: str) -> Any:
    """cpt's trainer with an engine in a Ray actor, as a run has it."""
    import ray

    from cpt.models.load import load_policy, load_processor
    from cpt.rollout.pool import RolloutPool
    from cpt.run.worker import import_trainers
    from cpt.train.data import own_samples

    import_trainers()
    from cpt.train.grpo import grpo_trainer

    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    pool = RolloutPool.start(stage.model.path, engine=engine, max_model_len=stage.rollout.max_model_len)
    policy, processor = load_policy(stage.model.path), load_processor(stage.model.path)
    return grpo_trainer(stage, own_samples(stage), policy, processor, folder, pool)


def stock_trainer(stage: Any, folder: Path) -> Any:
    """TRL's trainer and transformers' model, with nothing of ours but a stopwatch."""
    from cpt.models.load import load_processor
    from cpt.rollout.timing import REST
    from cpt.run.worker import import_trainers

    import_trainers()
    from transformers import AutoModelForImageTextToText
    from trl import GRPOTrainer

    from cpt.train.data import as_dataset, own_samples, policy_rows, stage_data
    from cpt.train.grpo import grpo_arguments
    from cpt.train.hooks import StageTrainer
    from cpt.train.reward import reward_function, rewards_of

    class Stock(StageTrainer, GRPOTrainer):
        """TRL's own steps, timed."""

        def _generate_and_score_completions(self, *args: Any, **kwargs: Any) -> Any:
            with self.phases.measure(REST):
                return super()._generate_and_score_completions(*args, **kwargs)

        def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
            with self.phases.measure("rollout"):
                return super()._generate_single_turn(*args, **kwargs)

    settings = grpo_arguments(stage, folder)
    processor = load_processor(stage.model.path)
    processor.tokenizer.padding_side = "left"
    data = stage_data(stage, own_samples(stage), settings.world_size)
    return Stock(
        model=AutoModelForImageTextToText.from_pretrained(
            stage.model.path, dtype="float32", attn_implementation="sdpa"
        ),
        args=settings,
        reward_funcs=[reward_function(stage.prompt, rewards_of(stage))],
        train_dataset=as_dataset(policy_rows(data.samples, stage.prompt), data.order),
        processing_class=processor,
    )


def turns(trainer: Any, pipe: Connection) -> Any:
    """A callback that waits for the parent before every step and reports after it."""
    from transformers import TrainerCallback

    class Turns(TrainerCallback):
        """One step at a time."""

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            """The first turn."""
            pipe.send("ready")
            self.wait()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            """A step is over: its seconds, then the next turn."""
            if "loss" not in logs:
                return
            phases = trainer.phases.take()
            seconds = {phase: phases.get(phase, 0.0) for phase in PHASES}
            tokens = logs["completions/mean_length"] * trainer.args.per_device_train_batch_size
            pipe.send({**seconds, "step": sum(phases.values()), "tokens": tokens})
            self.wait()

        def wait(self) -> None:
            """Until it is this trainer's turn; the end of the pipe is the end of the benchmark."""
            try:
                pipe.recv()
            except EOFError:
                os._exit(0)
            trainer.phases.take()

    return Turns()


if __name__ == "__main__":
    main()
