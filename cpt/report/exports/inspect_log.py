"""Records as a log of Inspect: EvalLog in JSON, schema version 2, as inspect_ai 0.3.285 reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cpt.common.digests import bytes_digest
from cpt.common.files import write_json_atomic
from cpt.report.exports.evaluations import VERSION, Evaluation
from cpt.store.folder import safe_name
from cpt.types import Record

SCORERS = ("strict", "tolerant")


def write_inspect(out: Path, one: Evaluation) -> Path:
    """One log: two scorers, strict and tolerant. The file's path."""
    identity = bytes_digest(f"{one.policy}/{one.task}".encode())[:22]
    stamp = one.at.strftime("%Y-%m-%dT%H-%M-%S+00-00")
    path = out / one.folder / f"{stamp}_{safe_name(one.task)}_{identity}.json"
    write_json_atomic(path, _log(one, identity))
    return path


def _log(one: Evaluation, identity: str) -> dict[str, Any]:
    n, at = len(one.records), one.at.isoformat()
    asked = {"max_tokens": one.max_tokens, "temperature": one.temperature}
    place = {"run": one.run, "arm": one.arm, "seed": one.seed, "stage": one.stage, "base_model": one.model}
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": identity,
            "run_id": bytes_digest(one.policy.encode())[:22],
            "created": at,
            "task": one.task,
            "task_id": identity,
            "task_version": 0,
            "task_attribs": {},
            "task_args": {},
            "dataset": {
                "name": one.task,
                "samples": n,
                "sample_ids": [record.sample_id for record in one.records],
                "shuffled": False,
            },
            "model": f"cpt/{one.policy}",
            "model_generate_config": {name: value for name, value in asked.items() if value is not None},
            "model_args": {},
            "config": {},
            "packages": {"continual-post-training": VERSION},
            "metadata": {**place, "metric": one.metric},
        },
        "plan": {"name": "plan", "steps": [{"solver": "generate", "params": {}}], "config": {}},
        "results": {
            "total_samples": n,
            "completed_samples": n,
            "scores": [
                {
                    "name": name,
                    "scorer": name,
                    "params": {},
                    "metrics": {"mean": {"name": "mean", "value": mean, "params": {}}},
                }
                for name, mean in one.means().items()
            ],
        },
        "stats": {"started_at": at, "completed_at": at, "model_usage": {}},
        "samples": [_sample(one, record) for record in one.records],
    }


def _sample(one: Evaluation, record: Record) -> dict[str, Any]:
    model = f"cpt/{one.policy}"
    answer = {"role": "assistant", "content": record.completion, "source": "generate", "model": model}
    stop = "max_tokens" if record.finish_reason == "length" else "stop"
    scores = dict(zip(SCORERS, (record.score, record.tolerant), strict=True))
    return {
        "id": record.sample_id,
        "epoch": 1,
        "input": record.prompt,
        "target": record.gold if len(record.gold) != 1 else record.gold[0],
        "messages": [{"role": "user", "content": record.prompt, "source": "input"}, answer],
        "output": {
            "model": model,
            "choices": [{"message": answer, "stop_reason": stop}],
            "completion": record.completion,
            "usage": {"input_tokens": 0, "output_tokens": record.n_tokens, "total_tokens": record.n_tokens},
        },
        "scores": {name: {"value": value, "answer": record.extracted} for name, value in scores.items()},
        "metadata": {"question_id": record.question_id, "right_from": record.right_from},
        "store": {},
        "events": [],
        "model_usage": {},
        "attachments": {},
    }
