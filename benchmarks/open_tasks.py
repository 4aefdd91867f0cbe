"""Seconds and memory of a task over many rows with pictures: opened, read for a stage, first batch, checked whole.

    python benchmarks/open_tasks.py --rows 100000

The rows are made once, in parquet with embedded JPEGs and in JSONL beside picture files. Each kind is measured in a
process of its own, beside a baseline that reads all rows and keeps their decoded pictures, as far as `--baseline` rows.
The last lines compare with it. Memory is a process's own (RssAnon), at its highest so far; pages of mapped data files,
which the system takes back when it needs them, come on top.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import random
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIDE = 96
BATCH = 64
STAGE = 2048
OPENED = "open: index of all rows"
SAMPLES = f"samples of a stage of {STAGE}"
TRAINED = "rows of the trainer"
BATCH_READ = f"first batch of {BATCH}, decoded"
CHECKED = "check of all rows and pictures"
KEPT = "all rows decoded and kept"

Laps = dict[str, tuple[float, float]]
"""By what was done: seconds, and MiB of the process's own memory at most so far."""


def main() -> None:
    """Make the data, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--baseline", type=int, default=10_000, help="rows that the baseline keeps decoded")
    parser.add_argument("--folder", type=Path, help="where the data are made and kept; default: a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        make(folder, options.rows)
        opened: dict[str, Laps] = {}
        for kind, path in (("parquet", "rows.parquet"), ("jsonl", "rows.jsonl")):
            opened[kind] = measured(open_and_check, str(folder / path))
            show(kind, opened[kind])
        kept = measured(keep_all, str(folder / "rows.parquet"), options.baseline)
        show("baseline", kept)
    seconds, own = kept[KEPT]
    for kind, found in opened.items():
        first = sum(found[name][0] for name in (OPENED, SAMPLES, TRAINED, BATCH_READ))
        print(f"{kind:8} seconds to the first batch, of the baseline's   {first / seconds:6.2f}")
        print(f"{kind:8} memory of all this, of the baseline's           {found[CHECKED][1] / own:6.2f}")


def show(kind: str, found: Laps) -> None:
    """A line for each lap."""
    for name, (seconds, own) in found.items():
        print(f"{kind:8} {name:34} {seconds:6.1f} s, at most {own:5.0f} MiB so far")


def make(folder: Path, rows: int) -> None:
    """Both files, unless they are there."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    if (folder / "rows.parquet").exists():
        return
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    chance = random.Random(0)
    written: list[dict[str, Any]] = []
    writer = None
    for start in range(0, rows, 5000):
        part: list[dict[str, Any]] = []
        for number in range(start, min(start + 5000, rows)):
            noise = Image.frombytes("RGB", (12, 12), chance.randbytes(432)).resize((SIDE, SIDE))
            file = io.BytesIO()
            noise.save(file, format="JPEG", quality=80)
            (folder / "pictures" / f"{number}.jpg").write_bytes(file.getvalue())
            row = {"question": f"What is picture {number % 977} of ?", "answer": str(number % 7)}
            part.append({**row, "image": {"bytes": file.getvalue(), "path": f"{number}.jpg"}})
            written.append({**row, "image": f"pictures/{number}.jpg"})
        table = pa.Table.from_pylist(part)
        writer = writer or pq.ParquetWriter(folder / "rows.parquet", table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in written))


def open_and_check(path: str) -> Laps:
    """What a user waits for, in order."""
    from cpt.tasks import declare, open_task
    from cpt.tasks.audit.scan import audit
    from cpt.tasks.definition import TaskDefinition
    from cpt.tasks.registry import data_fingerprint
    from cpt.train.data import as_dataset, policy_rows

    found: Laps = {}
    peak = Peak()

    def lap(name: str, work: Callable[[], Any]) -> Any:
        clock = time.perf_counter()
        result = work()
        found[name] = (time.perf_counter() - clock, peak.mebibytes())
        return result

    declare([TaskDefinition.model_validate({"name": "many", "data": path})])
    task: Any = lap(OPENED, lambda: open_task("many"))
    lap(f"fingerprint of {STAGE} rows", lambda: data_fingerprint("many", "train", STAGE, 0))
    samples = lap(SAMPLES, lambda: task.samples("train", STAGE))
    rows = lap(TRAINED, lambda: as_dataset(policy_rows(samples, "direct"), range(STAGE)))
    lap(BATCH_READ, lambda: rows[:BATCH])
    report = lap(CHECKED, lambda: audit(task))
    assert sum(report.rows.values()) == len(task.index.places("train")) + len(task.index.places("test"))
    return found


def keep_all(path: str, rows: int) -> Laps:
    """The plain way: every picture decoded and kept."""
    import pyarrow.parquet as pq
    from PIL import Image

    peak, clock, kept = Peak(), time.perf_counter(), []
    for batch in pq.ParquetFile(path).iter_batches(1000):
        for row in batch.to_pylist():
            kept.append({**row, "image": Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")})
        if len(kept) >= rows:
            break
    print(f"{'baseline':8} {len(kept)} rows")
    return {KEPT: (time.perf_counter() - clock, peak.mebibytes())}


class Peak:
    """The most memory of its own that this process has had, looked at fifty times a second."""

    def __init__(self) -> None:
        self._most = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def mebibytes(self) -> float:
        """So far."""
        self._look()
        return self._most / 1024

    def _watch(self) -> None:
        while True:
            self._look()
            time.sleep(0.02)

    def _look(self) -> None:
        (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon:"))
        self._most = max(self._most, int(line.split()[1]))


def measured(work: Callable[..., Laps], *arguments: Any) -> Laps:
    """The work's result, from a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


if __name__ == "__main__":
    main()
