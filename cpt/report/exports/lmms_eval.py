"""Records as lmms-eval 0.7.3 logs samples: `DATE_samples_TASK.jsonl` and `DATE_results.json`."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cpt.common.files import write_json_atomic, write_text_atomic
from cpt.report.exports.evaluations import VERSION, Evaluation
from cpt.store.folder import safe_name
from cpt.types import Record


def write_lmms_eval(out: Path, evaluations: Sequence[Evaluation]) -> list[Path]:
    """One file of samples per task and one of results, for the evaluations of one policy. The files of samples.

    The strict score is the metric `<name>_score`, the tolerant one `<name>_score_tolerant`. What lmms-eval has no key
    for is an object under `cpt`.
    """
    first = evaluations[0]
    date = first.at.strftime("%Y%m%d_%H%M%S")
    folder = out / first.folder
    written = []
    for one in evaluations:
        path = folder / "_".join((date, "samples", f"{safe_name(one.task)}.jsonl"))
        lines = [json.dumps(_sample(one, number), ensure_ascii=False) for number in range(len(one.records))]
        write_text_atomic(path, "\n".join(lines) + "\n")
        written.append(path)
    write_json_atomic(folder / f"{date}_results.json", _results(evaluations, date))
    return written


def _sample(one: Evaluation, number: int) -> dict[str, Any]:
    record = one.records[number]
    said = {} if record.completion == record.extracted else {"resps": [record.completion]}
    return {
        "doc_id": number,
        "target": record.gold[0] if record.gold else "",
        **said,
        "filtered_resps": record.extracted,
        "token_counts": [{"input_tokens": None, "output_tokens": record.n_tokens, "reasoning_tokens": None}],
        "doc_hash": _doc_hash(record),
        **dict(zip(_names(one), (record.score, record.tolerant), strict=True)),
        "input": record.prompt,
        "cpt": {
            "sample_id": record.sample_id,
            "gold": record.gold,
            "finish_reason": record.finish_reason,
            "right_from": record.right_from,
        },
    }


def _doc_hash(record: Record) -> str:
    """As long as theirs; the same for samples that are one question."""
    return hashlib.sha256((record.question_id or record.sample_id).encode()).hexdigest()


def _results(evaluations: Sequence[Evaluation], date: str) -> dict[str, Any]:
    first = evaluations[0]
    results: dict[str, Any] = {}
    for one in evaluations:
        results[one.task] = {"alias": one.task, "samples": len(one.records)}
        for name, values in _metrics(one).items():
            results[one.task] |= {f"{name},none": sum(values) / len(values), f"{name}_stderr,none": _stderr(values)}
    tasks = [one.task for one in evaluations]
    kind = "generate_until"
    asked = {"max_new_tokens": first.max_tokens, "temperature": first.temperature}
    hashes = {
        one.task: hashlib.sha256("".join(map(_doc_hash, one.records)).encode()).hexdigest() for one in evaluations
    }
    return {
        "results": results,
        "group_subtasks": {task: [] for task in tasks},
        "configs": {task: {"task": task, "output_type": kind, "generation_kwargs": asked} for task in tasks},
        "versions": dict.fromkeys(tasks, f"cpt {VERSION}"),
        "n-shot": dict.fromkeys(tasks, 0),
        "higher_is_better": {one.task: dict.fromkeys(_metrics(one), True) for one in evaluations},
        "n-samples": {one.task: {"original": len(one.records), "effective": len(one.records)} for one in evaluations},
        "config": {"model": "cpt", "model_args": first.policy, "gen_kwargs": None, "limit": None},
        "date": date,
        "cpt_version": VERSION,
        "task_hashes": hashes,
        "model_source": "cpt",
        "model_name": first.policy,
        "model_name_sanitized": first.policy.replace("/", "__"),
    }


def _names(one: Evaluation) -> tuple[str, str]:
    """What the strict and the tolerant score are called. Its `--baseline` takes the first key with `score` in it."""
    strict = f"{one.metric}_score" if one.metric else "score"
    return strict, f"{strict}_tolerant"


def _metrics(one: Evaluation) -> dict[str, list[float]]:
    scores = [record.score for record in one.records], [record.tolerant for record in one.records]
    return dict(zip(_names(one), scores, strict=True))


def _stderr(values: Sequence[float]) -> float | str:
    """Of the mean, as theirs: from the sample's standard deviation."""
    n = len(values)
    if n < 2:
        return "N/A"
    mean = sum(values) / n
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n)
