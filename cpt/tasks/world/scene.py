"""The world of shapes: up to five coloured shapes of two sizes on a 3x3 grid, drawn into 48x48 pixels."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw

COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 80, 230), "yellow": (230, 210, 40)}
SHAPES = ("circle", "square", "triangle", "cross")
ROWS = ("top", "middle", "bottom")
COLUMNS = ("left", "center", "right")
BACKGROUND = (245, 245, 245)
SIZE = 48
CELL = SIZE // 3
MAX_OBJECTS = 5
_HALF = {True: 7, False: 4}  # half the side of a large and of a small shape, in pixels


@dataclass(frozen=True, slots=True, order=True)
class Thing:
    """One shape in its cell; ordered by row, then column: the order in which a scene is read."""

    row: int
    column: int
    colour: str
    shape: str
    large: bool

    @property
    def name(self) -> str:
        """Colour and shape, the way questions and answers call it."""
        return f"{self.colour} {self.shape}"

    @property
    def place(self) -> str:
        """Row and column in words."""
        return f"{ROWS[self.row]} {COLUMNS[self.column]}"


Scene = tuple[Thing, ...]


def draw_scene(rng: random.Random, low: int = 1, high: int = MAX_OBJECTS) -> Scene:
    """A scene of `low` to `high` things in distinct cells, sorted in reading order."""
    cells = rng.sample(range(9), rng.randint(low, high))
    things = [Thing(c // 3, c % 3, rng.choice(tuple(COLOURS)), rng.choice(SHAPES), rng.random() < 0.5) for c in cells]
    return tuple(sorted(things))


def describe(scene: Scene) -> str:
    """The scene in words, in reading order: the careful strategy's reasoning."""
    return " ".join(f"{t.name} {t.place}" for t in scene)


def key(scene: Scene) -> str:
    """A text that is equal for equal pictures and only for them."""
    return ";".join(f"{t.row}{t.column}{t.colour}{t.shape}{int(t.large)}" for t in scene)


@lru_cache(maxsize=4096)
def render(scene: Scene) -> Image.Image:
    """The picture, RGB, 48x48. Equal scenes share one picture."""
    image = Image.new("RGB", (SIZE, SIZE), BACKGROUND)
    canvas = ImageDraw.Draw(image)
    for thing in scene:
        _draw_thing(canvas, thing)
    return image


def _draw_thing(canvas: ImageDraw.ImageDraw, thing: Thing) -> None:
    x, y = thing.column * CELL + CELL // 2, thing.row * CELL + CELL // 2
    half = _HALF[thing.large]
    box = (x - half, y - half, x + half - 1, y + half - 1)
    fill = COLOURS[thing.colour]
    if thing.shape == "circle":
        canvas.ellipse(box, fill=fill)
    elif thing.shape == "square":
        canvas.rectangle(box, fill=fill)
    elif thing.shape == "triangle":
        canvas.polygon([(box[0], box[3]), (box[2], box[3]), (x, box[1])], fill=fill)
    else:
        arm = 2
        canvas.rectangle((x - arm, box[1], x + arm - 1, box[3]), fill=fill)
        canvas.rectangle((box[0], y - arm, box[2], y + arm - 1), fill=fill)
