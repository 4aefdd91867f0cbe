"""The family of digits: real handwriting, the 1,797 UCI scans that scikit-learn ships, alone or in strips.

The scans are split by scan (6 : 2 : 2, by a hash of their number), so that no handwriting of one split is in another.
"""

from __future__ import annotations

import random
from functools import lru_cache
from typing import TYPE_CHECKING

from PIL import Image

from cpt.tasks.samples import split_of
from cpt.tasks.world.base import BuiltinTask, Question
from cpt.tasks.world.scene import BACKGROUND, CELL, SIZE
from cpt.types import Split

if TYPE_CHECKING:
    import numpy as np

DIGITS = tuple(str(d) for d in range(10))
_INK = 16.0  # the scans count ink in 0..16
_SHIFT = 1  # pixels of random placement around the cell


@lru_cache(maxsize=1)
def _scans() -> tuple[np.ndarray, np.ndarray]:
    """Images [1797, 8, 8] of ink in 0..16 and labels [1797]."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.images, data.target


@lru_cache(maxsize=3)
def scan_numbers(split: Split) -> tuple[int, ...]:
    """The numbers of the scans that a split owns."""
    _, labels = _scans()
    return tuple(i for i in range(len(labels)) if split_of(f"scan/{i}") == split)


def _strip(rng: random.Random, scans: list[int]) -> Image.Image:
    """The scans side by side in the middle row, each shifted by up to a pixel: RGB, 48x48."""
    import numpy as np

    images, _ = _scans()
    canvas = np.full((SIZE, SIZE), float(BACKGROUND[0]))
    first = (3 - len(scans)) / 2
    for i, scan in enumerate(scans):
        ink = np.kron(images[scan], np.ones((2, 2))) / _INK
        x = int((first + i) * CELL) + rng.randint(-_SHIFT, _SHIFT)
        y = CELL + rng.randint(-_SHIFT, _SHIFT)
        x = min(max(x, 0), SIZE - CELL)
        canvas[y : y + CELL, x : x + CELL] = np.minimum(canvas[y : y + CELL, x : x + CELL], BACKGROUND[0] * (1 - ink))
    return Image.fromarray(canvas.astype(np.uint8)).convert("RGB")


class DigitTask(BuiltinTask):
    """Draws scans of the split; subclasses ask about their labels."""

    family = "digits"

    def read(self, rng: random.Random, split: Split, count: int) -> tuple[list[int], tuple[Image.Image, ...]]:
        """Labels of `count` random scans of the split, and the picture of them."""
        _, labels = _scans()
        scans = [rng.choice(scan_numbers(split)) for _ in range(count)]
        return [int(labels[s]) for s in scans], (_strip(rng, scans),)

    def ask(
        self, rng: random.Random, labels: list[int], image: tuple[Image.Image, ...], *gold: str, habit: str, easy: bool
    ) -> Question:
        """A question about the picture; the scans have decided the split."""
        reasoning = "I read " + " , ".join(map(str, labels)) + " ."
        return Question(self.phrase(rng), gold, image, None, easy, habit, reasoning)


class ReadStrip(DigitTask):
    """Reading, the family of TextVQA."""

    name = "read-strip"
    about = "the two or three digits of a strip, in order"
    phrasings = ("Read the digits .", "Which digits are written here ?", "What does the strip say ?")

    def draw(self, rng: random.Random, split: Split) -> Question:
        """The habit is to repeat the first digit."""
        labels, image = self.read(rng, split, rng.choice((2, 3)))
        habit = " ".join([str(labels[0])] * len(labels))
        return self.ask(rng, labels, image, " ".join(map(str, labels)), habit=habit, easy=len(labels) == 2)


class LargerDigit(DigitTask):
    """Comparison, the family of Geometry3K."""

    name = "larger-digit"
    about = "the larger of two digits"
    candidates = DIGITS
    phrasings = ("Which digit is larger ?", "Name the larger digit .", "What is the larger of the two digits ?")

    def draw(self, rng: random.Random, split: Split) -> Question:
        """Two different digits; the habit is the left one."""
        while True:
            labels, image = self.read(rng, split, 2)
            if labels[0] != labels[1]:
                break
        easy = abs(labels[0] - labels[1]) >= 6
        return self.ask(rng, labels, image, str(max(labels)), habit=str(labels[0]), easy=easy)


class SumDigits(DigitTask):
    """Arithmetic on what is seen, the family of Geometry3K."""

    name = "sum-digits"
    about = "the sum of two digits"
    candidates = tuple(str(i) for i in range(19))
    phrasings = ("What is the sum of the digits ?", "Add the two digits .", "What do the digits add up to ?")

    def draw(self, rng: random.Random, split: Split) -> Question:
        """Easy when the sum has one digit; the habit is to answer 10."""
        labels, image = self.read(rng, split, 2)
        return self.ask(rng, labels, image, str(sum(labels)), habit="10", easy=sum(labels) <= 5)


class Parity(DigitTask):
    """Many right answers: the parity task of RL's Razor (arXiv 2509.04259)."""

    name = "parity"
    about = "any digit with the parity of the one shown"
    candidates = DIGITS
    phrasings = (
        "Name a digit with the same parity .",
        "Name any digit that has the parity of this one .",
        "Which digit has the same parity ?",
    )

    def draw(self, rng: random.Random, split: Split) -> Question:
        """Five digits are right; a supervised target is one of them at random. The habit has the wrong parity."""
        labels, image = self.read(rng, split, 1)
        right = [d for d in DIGITS if int(d) % 2 == labels[0] % 2]
        rng.shuffle(right)
        return self.ask(rng, labels, image, *right, habit=str((labels[0] + 1) % 10), easy=labels[0] <= 3)


class ReadDigit(DigitTask):
    """Reading one digit."""

    name, role = "read-digit", "general"
    about = "one handwritten digit"
    candidates = DIGITS
    phrasings = ("Which digit is this ?", "Read the digit .", "What digit do you see ?")

    def draw(self, rng: random.Random, split: Split) -> Question:
        """One scan in the middle of the picture."""
        labels, image = self.read(rng, split, 1)
        return self.ask(rng, labels, image, str(labels[0]), habit=str(labels[0]), easy=True)


TASKS: tuple[type[BuiltinTask], ...] = (ReadStrip, LargerDigit, SumDigits, Parity, ReadDigit)
