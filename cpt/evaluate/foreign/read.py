"""Logs of other programs, told apart by what is in them, and joined to one task."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cpt.common.digests import open_regular
from cpt.evaluate.foreign.inspect_logs import read_inspect
from cpt.evaluate.foreign.log import ForeignLog, check_unique
from cpt.evaluate.foreign.samples import read_samples
from cpt.evaluate.foreign.sidecar import version_beside


def read_log(path: Path) -> ForeignLog:
    """The samples of lm-eval or lmms-eval (`.jsonl`) or a log of Inspect (`.json`, `.eval`) in a file.

    Raises:
        ValueError: it is none of them, or can't be read.
    """
    open_regular(path).close()
    try:
        if path.suffix == ".jsonl":
            return read_samples(path, version_beside(path))
        if path.suffix == ".json" or zipfile.is_zipfile(path):
            return read_inspect(path)
    except (AttributeError, IndexError, KeyError, TypeError) as error:  # an object where a list should be, or the like
        raise ValueError(f"{path}: not laid out as a log ({type(error).__name__}: {error})") from error
    raise ValueError(
        f"{path}: not a log that cpt reads; give samples of lm-eval or lmms-eval (.jsonl), or an Inspect log"
    )


def read_task(paths: Sequence[Path], name: str) -> ForeignLog:
    """One task from several files: its parts, or the subtasks of a group, whose samples then bear their names.

    Raises:
        ValueError: the files are of several programs or versions, or a sample is in two of them.
    """
    logs = [read_log(path) for path in paths]
    first = logs[0]
    for log in logs[1:]:
        if log.source != first.source:
            raise ValueError(f"{log.path}: of {log.source}, and {first.path} of {first.source}; import one at a time")
    if len(logs) == 1:
        return first
    several = len({log.task for log in logs}) > 1
    samples = [
        replace(sample, id=f"{log.task}/{sample.id}") if several else sample for log in logs for sample in log.samples
    ]
    check_unique(samples)
    lower = frozenset(name for log in logs for name in log.lower)
    config = {log.task: log.config for log in logs}
    return replace(first, task=name if several else first.task, samples=samples, lower=lower, config=config)
