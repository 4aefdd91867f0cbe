"""Logs of Inspect, schema 2, as inspect_ai 0.3.285 has it: `.json`, or `.eval`, a zip of its parts."""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from cpt.common.digests import bytes_digest
from cpt.evaluate.foreign.log import CPT, Answer, ForeignLog, ForeignSample, check_unique

INSPECT = "inspect"
SCHEMA = 2
_ZSTANDARD = 93  # number of the method in zips
# What `inspect_ai.scorer` calls right, wrong, half right and not answered.
GRADES = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
_OURS = "continual-post-training"  # our package, in a log that `cpt export` has written
_CONVERT = "convert it: inspect log convert FILE --to json --output-dir DIR"


def read_inspect(path: Path) -> ForeignLog:
    """One log. Epochs of a sample become its mean score, with the completion of the first.

    Raises:
        ValueError: not such a log, one of another schema, or of an evaluation that did not end well.
    """
    log = _read_zip(path) if zipfile.is_zipfile(path) else _parsed(path, path.read_bytes())
    if not isinstance(log.get("eval"), dict):
        raise ValueError(f"{path}: no Inspect log: it has no eval")
    if log.get("version") != SCHEMA:
        raise ValueError(f"{path}: an Inspect log of schema {log.get('version')}, and cpt reads {SCHEMA}; {_CONVERT}")
    if log.get("status") != "success":
        raise ValueError(f"{path}: its evaluation ended with {log.get('status')!r}; run it again to the end")
    spec = log["eval"]
    packages = spec.get("packages") or {}
    rows = log.get("samples") or []
    if not rows:
        raise ValueError(f"{path}: has no samples; evaluate with log_samples")
    samples: dict[tuple[str, int], ForeignSample] = {}
    for row in rows:
        one = _sample(path, row)
        place = (one.id, int(row.get("epoch", 1)))
        if place in samples:
            check_unique([samples[place], one])
        samples[place] = one
    by_id: dict[str, list[ForeignSample]] = {}
    for (name, _), one in sorted(samples.items(), key=lambda item: item[0][1]):
        by_id.setdefault(name, []).append(one)
    return ForeignLog(
        path=path,
        harness=CPT if _OURS in packages else INSPECT,
        version=str(packages.get(_OURS) or packages.get("inspect_ai", "")),
        task=str(spec.get("task", path.stem)),
        samples=[_mean(epochs) for epochs in by_id.values()],
        task_version=str(spec.get("task_version", "")),
        config={name: spec.get(name) for name in ("model", "config", "task_args", "model_generate_config", "dataset")},
    )


def _parsed(path: Path, content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError(f"{path}: damaged JSON; copy the file again") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: no Inspect log: not an object")
    return found


def _read_zip(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as parts, path.open("rb") as raw:
        members = {one.filename: one for one in parts.infolist()}
        if "header.json" not in members:
            raise ValueError(f"{path}: no whole Inspect log: it has no header.json")
        log = _parsed(path, _content_of(path, parts, raw, members["header.json"]))
        samples = [one for name, one in members.items() if name.startswith("samples/")]
        log["samples"] = [_parsed(path, _content_of(path, parts, raw, one)) for one in samples]
    return log


def _content_of(path: Path, parts: zipfile.ZipFile, raw: BinaryIO, member: zipfile.ZipInfo) -> bytes:
    """One part of a zip. Zstandard, which Inspect writes, is beyond Python's own zipfile before 3.14."""
    import pyarrow as pa

    try:
        if member.compress_type != _ZSTANDARD:
            return parts.read(member)
        raw.seek(member.header_offset)
        names = struct.unpack("<26xHH", raw.read(30))  # lengths of the name and the extra field, which come next
        raw.seek(sum(names), io.SEEK_CUR)
        content: bytes = pa.input_stream(pa.BufferReader(raw.read(member.compress_size)), compression="zstd").read()
    except (zipfile.BadZipFile, zlib.error, struct.error, OSError, NotImplementedError) as error:
        raise ValueError(f"{path}: {member.filename} in it can't be read ({error}); {_CONVERT}") from None
    if zlib.crc32(content) != member.CRC:
        raise ValueError(f"{path}: {member.filename} in it is damaged; copy the file again")
    return content


def _sample(path: Path, row: Mapping[str, Any]) -> ForeignSample:
    output = row.get("output") or {}
    choice: Mapping[str, Any] = next(iter(output.get("choices") or []), {})
    completion = output.get("completion") or _content((choice.get("message") or {}).get("content", ""))
    prompt = row.get("input", "")
    target = row.get("target", "")
    return ForeignSample(
        where=f"{path}, sample {row.get('id')}",
        id=str(row.get("id")),
        prompt=prompt if isinstance(prompt, str) else "\n".join(_content(one.get("content", "")) for one in prompt),
        completion=completion,
        gold=tuple(map(str, target)) if isinstance(target, list) else (str(target),),
        answers={} if row.get("error") else _answers(row.get("scores") or {}),
        question=bytes_digest(json.dumps(prompt, sort_keys=True).encode())[:24],
        n_tokens=int((output.get("usage") or {}).get("output_tokens") or 0),
        finish_reason="length" if choice.get("stop_reason") in ("max_tokens", "model_length") else "stop",
    )


def _answers(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, Answer]:
    """One per scorer; per scorer and key, `SCORER/KEY`, where it gives several values."""
    found: dict[str, Answer] = {}
    for scorer, score in scores.items():
        value, answer = score.get("value"), str(score.get("answer") or "")
        if isinstance(value, Mapping):
            found |= {f"{scorer}/{key}": Answer(_value(one), answer) for key, one in value.items()}
        else:
            found[scorer] = Answer(_value(value), answer)
    return found


def _value(value: Any) -> float | None:
    if isinstance(value, str):
        return GRADES.get(value)
    number = float(value) if isinstance(value, bool | int | float) else math.nan
    return None if math.isnan(number) else number  # NaN: not scored


def _content(content: Any) -> str:
    """The text of a message: itself, or that of its parts."""
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in content if part.get("type") == "text")


def _mean(epochs: list[ForeignSample]) -> ForeignSample:
    if len(epochs) == 1:
        return epochs[0]
    first = epochs[0]
    answers = {}
    for name, answer in first.answers.items():
        values = [one.answers[name].value if name in one.answers else None for one in epochs]
        known = [value for value in values if value is not None]
        answers[name] = Answer(math.fsum(known) / len(known) if len(known) == len(values) else None, answer.extracted)
    return replace(first, answers=answers)
