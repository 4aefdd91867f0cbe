"""Fashion-MNIST (arXiv 1708.07747) as parquet with the pictures in it: 28×28 greys, ten classes, its own test split."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from cpt.tasks.real_pictures.writing import png

CLASSES = (
    "T-shirt or top", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
KINDS = ("a top", "trousers or a dress", "a shoe", "a bag")
_KIND_OF = (0, 1, 0, 1, 0, 2, 0, 2, 3, 2)  # class → kind
_SPLITS = {"train": "train", "test": "t10k"}
_AT_ONCE = 1000
_GROUP = 100  # rows that a reader of one row has to read


def make(found: dict[str, Path], out: Path) -> dict[str, int]:
    """`train.parquet` and `test.parquet`, laid out as on the Hugging Face Hub: `image` with bytes and path, `label` as
    an index. `choices` names the ten classes, `kind` is an index into the four `kinds`."""
    folder = found["dataset-fashion-mnist"]
    return {f"{split}.parquet": _split(folder, stem, out / f"{split}.parquet") for split, stem in _SPLITS.items()}


def _split(folder: Path, stem: str, target: Path) -> int:
    pictures = _idx(folder / f"{stem}-images-idx3-ubyte.gz", 3)
    labels = _idx(folder / f"{stem}-labels-idx1-ubyte.gz", 1)
    if len(pictures) != len(labels) or labels.max() >= len(CLASSES):
        raise ValueError(f"{folder}: {stem} has {len(pictures)} pictures and {len(labels)} labels up to {labels.max()}")
    schema = _schema()
    with pq.ParquetWriter(target, schema) as writer:
        for start in range(0, len(labels), _AT_ONCE):
            here = range(start, min(start + _AT_ONCE, len(labels)))
            rows = [_row(pictures[i], int(labels[i]), f"{i:05}.png") for i in here]
            writer.write_table(pa.Table.from_pylist(rows, schema), row_group_size=_GROUP)
    return len(labels)


def _schema() -> pa.Schema:
    """With the names of the classes, as `datasets` writes and reads them."""
    from datasets import ClassLabel, Features, List, Value
    from datasets import Image as Picture

    texts = List(Value("string"))
    classes, kinds = ClassLabel(names=list(CLASSES)), ClassLabel(names=list(KINDS))
    columns = {"image": Picture(), "label": classes, "choices": texts, "kind": kinds, "kinds": texts}
    return Features(columns).arrow_schema


def _row(picture: np.ndarray, label: int, name: str) -> dict[str, object]:
    image = {"bytes": png(Image.fromarray(picture)), "path": name}
    return {"image": image, "label": label, "choices": CLASSES, "kind": _KIND_OF[label], "kinds": KINDS}


def _idx(path: Path, dimensions: int) -> np.ndarray:
    """The bytes in an IDX file: two zeros, type 8 (unsigned bytes), the number of dimensions, each as a big-endian
    number of four bytes, then the data."""
    with gzip.open(path) as handle:
        content = handle.read()
    start = 4 + 4 * dimensions
    head = content[:start].ljust(start, b"\0")
    shape = np.frombuffer(head[4:], ">u4")
    if head[:4] != bytes([0, 0, 8, dimensions]) or len(content) != start + shape.prod():
        raise ValueError(f"{path}: not a whole IDX file of unsigned bytes in {dimensions} dimensions")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
