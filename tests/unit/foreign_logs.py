"""Logs as other programs write them, line for line: lm-eval 0.4.13, lmms-eval 0.7.3, inspect_ai 0.3.285.

The lines of lm-eval are those of a real evaluation, those of lmms-eval what its own writer makes of a task's samples.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LM_DATE, LMMS_DATE = "2026-11-29T22-11-02.907677", "20261129_223000"


def lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def generated(number: int, said: str, filters: Mapping[str, tuple[str, float]], target: str = "blue") -> list[Any]:
    """A document of lm-eval that was answered freely: one line per filter, answer and score."""
    return [
        {
            "doc_id": number,
            "doc": {"question": f"question {number}", "answer": target},
            "target": target,
            "arguments": {"gen_args_0": {"arg_0": f"question {number} Answer :", "arg_1": {"until": ["<eos>"]}}},
            "resps": [[said]],
            "filtered_resps": [read],
            "filter": name,
            "metrics": ["exact_match"],
            "doc_hash": f"{number:064x}",
            "prompt_hash": "f4" * 32,
            "target_hash": "16" * 32,
            "exact_match": score,
        }
        for name, (read, score) in filters.items()
    ]


def chosen(number: int, logprobs: Sequence[float], target: int, **scores: float) -> dict[str, Any]:
    """A document of lm-eval with options, each scored by log-likelihood."""
    options = [" red", " blue", " green"][: len(logprobs)]
    resps = [[[str(logprob), "False"]] for logprob in logprobs]
    return {
        "doc_id": number,
        "doc": {"question": f"question {number}", "label": target},
        "target": str(target),
        "arguments": {f"gen_args_{i}": {"arg_0": f"question {number}", "arg_1": o} for i, o in enumerate(options)},
        "resps": resps,
        "filtered_resps": [one[0] for one in resps],
        "filter": "none",
        "metrics": list(scores),
        "doc_hash": f"{number:064x}",
        "prompt_hash": "f4" * 32,
        "target_hash": "6b" * 32,
        **scores,
    }


def lm_results(task: str, **higher: bool) -> dict[str, Any]:
    return {
        "results": {task: {"name": task, "alias": task, "sample_len": 2}},
        "group_subtasks": {},
        "configs": {task: {"task": task, "dataset_path": "json", "metadata": {"version": 2.0}}},
        "versions": {task: 2.0},
        "n-shot": {task: 0},
        "higher_is_better": {task: higher},
        "config": {"model": "hf", "limit": None},
        "lm_eval_version": "0.4.13",
    }


def lm_eval(folder: Path, task: str, rows: Sequence[Any], **higher: bool) -> Path:
    """What lm-eval leaves of one task, below its output folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"results_{LM_DATE}.json").write_text(json.dumps(lm_results(task, **higher)))
    return lines(folder / f"samples_{task}_{LM_DATE}.jsonl", rows)


def pope(number: int, score: float, said: str = "Yes, there is.") -> dict[str, Any]:
    """A document of lmms-eval's POPE: objects for its aggregation, which is not a mean of every one."""
    found = {"question_id": number, "score": score, "prediction": "yes", "ground_truth": "yes"}
    return {
        "doc_id": number,
        "target": "yes",
        "filtered_resps": said,
        "token_counts": [{"input_tokens": 3, "output_tokens": 5, "reasoning_tokens": None}],
        "doc_hash": f"{number:064x}",
        "pope_accuracy": found,
        "pope_f1_score": found,
        "submission": {"question_id": number},
        "input": "Is there a cat?",
    }


def lmms_eval(folder: Path, rows: Sequence[Any], task: str = "pope") -> Path:
    """What lmms-eval leaves of one task, below its output folder; as an installed package it names no version."""
    about = {
        "results": {task: {"alias": task, "pope_accuracy,none": 0.5, "samples": len(rows)}},
        "configs": {task: {"task": task}},
        "versions": {task: 0.0},
        "n-shot": {task: 0},
        "higher_is_better": {task: {"pope_accuracy": True, "pope_f1_score": True}},
        "config": {"model": "qwen2_5_vl"},
        "lmms_eval_version": "unknown@unknown",
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{LMMS_DATE}_results.json").write_text(json.dumps(about))
    return lines(folder / f"{LMMS_DATE}_samples_{task}.jsonl", rows)


def inspect_sample(name: str, value: Any, epoch: int = 1, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "ANSWER: B", "source": "generate"}
    return {
        "id": name,
        "epoch": epoch,
        "input": [{"role": "user", "content": [{"type": "text", "text": f"which {name}?"}]}],
        "target": "B",
        "messages": [],
        "output": {
            "model": "vllm/policy",
            "choices": [{"message": message, "stop_reason": "max_tokens"}],
            "usage": {"input_tokens": 9, "output_tokens": 7, "total_tokens": 16},
        },
        "scores": {"choice": {"value": value, "answer": "B"}},
        **more,
    }


def inspect_log(samples: Sequence[Any], **more: Any) -> dict[str, Any]:
    spec = {
        "created": "2026-11-29T22:30:00+00:00",
        "task": "mmstar",
        "task_version": 3,
        "dataset": {"name": "mmstar"},
        "model": "vllm/policy",
        "config": {},
        "packages": {"inspect_ai": "0.3.285"},
    }
    return {"version": 2, "status": "success", "eval": spec, "samples": list(samples), **more}
