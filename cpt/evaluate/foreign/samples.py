"""Sample logs of lm-eval (lm-evaluation-harness) and lmms-eval: JSON lines, one per document and filter.

As lm-eval 0.4.13 and lmms-eval 0.7.3 write them with `--log_samples`:

    lm-eval     samples_TASK_DATE.jsonl   results_DATE.json   every filter of a document is a line of its own
    lmms-eval   DATE_samples_TASK.jsonl   DATE_results.json   no document; `input` instead of `arguments`; `resps` only
                                                              where it differs from `filtered_resps`

Every other key of a line is a metric. lmms-eval often gives a metric what its aggregation needs, as an object; its
`score` is then the sample's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cpt.common.digests import open_regular
from cpt.common.files import read_json
from cpt.evaluate.foreign.log import CPT, Answer, ForeignLog, ForeignSample, check_unique

LM_EVAL, LMMS_EVAL = "lm-eval", "lmms-eval"
SAMPLES = {
    LM_EVAL: re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)\.jsonl"),
    LMMS_EVAL: re.compile(r"(?P<date>\d{8}_\d{6})_samples_(?P<task>.+)\.jsonl"),
}
RESULTS = {LM_EVAL: "results_{date}.json", LMMS_EVAL: "{date}_results.json"}
VERSION = {LM_EVAL: "lm_eval_version", LMMS_EVAL: "lmms_eval_version", CPT: "cpt_version"}
_NO_METRIC = {
    *("doc_id", "doc", "target", "arguments", "input", "input_media", "resps", "filtered_resps", "token_counts"),
    *("filter", "metrics", "doc_hash", "prompt_hash", "target_hash", "cpt"),
}


def read_samples(path: Path, version: str = "") -> ForeignLog:
    """One file of samples, with what the results file beside it says of its task.

    Args:
        version: of the program, where the caller knows it.

    Raises:
        ValueError: not such a file; a line that is damaged, named; a sample that is there twice.
    """
    rows = list(_rows(path))
    if not rows:
        raise ValueError(f"{path}: empty")
    kind = LM_EVAL if isinstance(rows[0][1].get("arguments"), dict) else LMMS_EVAL
    harness = CPT if "cpt" in rows[0][1] else kind
    named = SAMPLES[kind].fullmatch(path.name)
    about = _results(path, kind, named)
    task = named["task"] if named else str(about.get("task", "")) or path.stem
    samples = _lm_eval(rows) if kind == LM_EVAL else _lmms_eval(rows)
    check_unique(samples)
    direction = about.get("higher_is_better", {}).get(task) or {}
    lower = {name for name, higher in direction.items() if higher is False}
    return ForeignLog(
        path=path,
        harness=harness,
        version=version or _version(about, harness),
        task=task,
        samples=samples,
        task_version=str(about.get("versions", {}).get(task, "")),
        config=_config(about, task),
        lower=frozenset(name for sample in samples for name in sample.answers if name.partition(",")[0] in lower),
    )


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Place and content of every line."""
    with open_regular(path) as handle:
        for number, line in enumerate(handle, start=1):
            where = f"{path}, line {number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                raise ValueError(f"{where}: damaged JSON; copy the file again") from None
            if not isinstance(row, dict) or "doc_id" not in row or "filtered_resps" not in row:
                raise ValueError(f"{where}: no sample of lm-eval or lmms-eval: it has no doc_id and filtered_resps")
            yield where, row


def _results(path: Path, harness: str, named: re.Match[str] | None) -> dict[str, Any]:
    """What the harness wrote of all tasks of the same evaluation; {} where that file is not there."""
    beside = path.with_name(RESULTS[harness].format(date=named["date"])) if named else None
    return read_json(beside, advice="copy the file again") if beside is not None and beside.exists() else {}


def _version(about: Mapping[str, Any], harness: str) -> str:
    """lmms-eval states branch and commit of its checkout, `unknown@unknown` where it is an installed package."""
    stated = str(about.get(VERSION[harness]) or "")
    return "" if "unknown" in stated else stated


def _config(about: Mapping[str, Any], task: str) -> dict[str, Any]:
    of_task = about.get("configs", {}).get(task, {})
    return {"task": of_task, "evaluation": about.get("config", {}), "n_shot": about.get("n-shot", {}).get(task)}


def _lm_eval(rows: list[tuple[str, dict[str, Any]]]) -> list[ForeignSample]:
    """One sample per document: the metrics of each filter are called `METRIC,FILTER`, as in the results file."""
    found: dict[str, ForeignSample] = {}
    for where, row in rows:
        name = str(row["doc_id"])
        requests = list((row.get("arguments") or {}).values())
        options = [str(one.get("arg_1", "")) for one in requests]
        choice = _likeliest(row.get("resps"), len(options))
        said = options[choice].strip() if choice is not None else _first_text(row.get("resps"))
        read = said if choice is not None else _first_text(row["filtered_resps"])
        answers = {
            f"{metric},{row.get('filter', 'none')}": Answer(_number(metric, row[metric]), read)
            for metric in row.get("metrics") or row
            if metric not in _NO_METRIC and metric in row
        }
        gold = str(row.get("target", ""))
        if choice is not None and gold.isdecimal() and int(gold) < len(options):
            gold = options[int(gold)].strip()
        before = found.get(name)
        if before is not None and before.answers.keys() & answers.keys():
            raise ValueError(f"{where}: sample {name} is there twice, first in {before.where}")
        found[name] = ForeignSample(
            where=before.where if before else where,
            id=name,
            prompt=_text(requests[0].get("arg_0", "")) if requests else "",
            completion=before.completion if before else said,
            gold=(gold,),
            answers={**(before.answers if before else {}), **answers},
            question=str(row.get("doc_hash", ""))[:24],
        )
    return list(found.values())


def _lmms_eval(rows: list[tuple[str, dict[str, Any]]]) -> list[ForeignSample]:
    found = []
    for where, row in rows:
        read = _first_text(row["filtered_resps"])
        ours = row.get("cpt") or {}  # of an export
        metrics = [name for name in row if name not in _NO_METRIC]
        found.append(
            ForeignSample(
                where=where,
                id=str(row["doc_id"]),
                prompt=_text(row.get("input", "")),
                completion=_first_text(row["resps"]) if "resps" in row else read,
                gold=(str(row.get("target", "")),),
                answers={name: Answer(_number(name, row[name]), read) for name in metrics},
                question=str(row.get("doc_hash", ""))[:24],
                n_tokens=_output_tokens(row.get("token_counts")),
                finish_reason="length" if ours.get("finish_reason") == "length" else "stop",
            )
        )
    return found


def _number(metric: str, value: Any) -> float | None:
    """A sample's score: a number, or the `score` of an object, or what the object calls as the metric."""
    if isinstance(value, Mapping):
        value = value.get("score", value.get(metric))
    return float(value) if isinstance(value, bool | int | float) else None


def _likeliest(responses: Any, options: int) -> int | None:
    """Of multiple choice by log-likelihood, the option of the highest: each response is [log-probability, greedy]."""
    if not isinstance(responses, list) or options < 2 or len(responses) != options:
        return None
    try:
        values = [float(one[0][0]) for one in responses if len(one[0]) == 2 and not isinstance(one[0], str)]
    except (IndexError, TypeError, ValueError):
        return None
    return values.index(max(values)) if len(values) == options else None


def _first_text(responses: Any) -> str:
    """The first response of nested lists; empty where there is no text but log-probabilities."""
    if isinstance(responses, list) and len(responses) == 2 and str(responses[1]) in ("True", "False"):
        return ""
    if isinstance(responses, list):
        return _first_text(responses[0]) if responses else ""
    return responses if isinstance(responses, str) else ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _output_tokens(counts: Any) -> int:
    first = counts[0] if isinstance(counts, list) and counts else None
    found = first.get("output_tokens") if isinstance(first, Mapping) else None
    return found if isinstance(found, int) and found >= 0 else 0
