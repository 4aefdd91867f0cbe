"""Seconds and memory of a task over many rows with pictures: opened, read for a stage, first batch, checked whole.

    python benchmarks/open_tasks.py --rows 100000

The rows are made once, in parquet with embedded JPEGs and in JSONL beside picture files. Each kind is measured in a
process of its own, beside a baseline that reads all rows and keeps their decoded pictures, as far as `--baseline` rows.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import random
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIDE = 96
BATCH = 64
STAGE = 2048


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
        for kind, path in (("parquet", "rows.parquet"), ("jsonl", "rows.jsonl")):
            shown = measured(open_and_check, str(folder / path))
            for name, value in shown.items():
                print(f"{kind:8} {name:34} {value}")
        kept = measured(keep_all, str(folder / "rows.parquet"), options.baseline)
        for name, value in kept.items():
            print(f"{'baseline':8} {name:34} {value}")


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


def open_and_check(path: str) -> dict[str, str]:
    """What a user waits for, in order."""
    from cpt.tasks import declare, open_task
    from cpt.tasks.audit.scan import audit
    from cpt.tasks.definition import TaskDefinition
    from cpt.tasks.registry import data_fingerprint
    from cpt.train.data import as_dataset, policy_rows

    found: dict[str, str] = {}

    def lap(name: str, work: Callable[[], Any]) -> Any:
        clock = time.perf_counter()
        result = work()
        found[name] = f"{time.perf_counter() - clock:6.1f} s, at most {peak():5.0f} MiB so far"
        return result

    found["imports"] = f"         at most {peak():5.0f} MiB so far"
    declare([TaskDefinition.model_validate({"name": "many", "data": path})])
    task: Any = lap("open: index of all rows", lambda: open_task("many"))
    lap(f"fingerprint of {STAGE} rows", lambda: data_fingerprint("many", "train", STAGE, 0))
    samples = lap(f"samples of a stage of {STAGE}", lambda: task.samples("train", STAGE))
    rows = lap("rows of the trainer", lambda: as_dataset(policy_rows(samples, "direct"), range(STAGE)))
    lap(f"first batch of {BATCH}, decoded", lambda: rows[:BATCH])
    report = lap("check of all rows and pictures", lambda: audit(task))
    found["rows checked"] = str(sum(report.rows.values()))
    return found


def keep_all(path: str, rows: int) -> dict[str, str]:
    """The plain way: every picture decoded and kept."""
    import pyarrow.parquet as pq
    from PIL import Image

    clock, kept = time.perf_counter(), []
    for batch in pq.ParquetFile(path).iter_batches(1000):
        for row in batch.to_pylist():
            kept.append({**row, "image": Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")})
        if len(kept) >= rows:
            break
    return {f"{len(kept)} rows, decoded and kept": f"{time.perf_counter() - clock:6.1f} s, at most {peak():5.0f} MiB"}


def peak() -> float:
    """Of this process's memory so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(work: Callable[..., dict[str, str]], *arguments: Any) -> dict[str, str]:
    """The work's result, from a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


if __name__ == "__main__":
    main()
