"""The family of shapes: eight stage tasks and three general ones over `cpt.tasks.world.scene`.

Every question calls things by what is unique in their scene, so each has a well-defined answer. An instance is easy
when the scene is sparse; on the others the base model mostly follows the habit given here.
"""

from __future__ import annotations

import random
from collections import Counter

from cpt.tasks.world.base import BuiltinTask, Question, pick
from cpt.tasks.world.scene import (
    COLOURS,
    COLUMNS,
    MAX_OBJECTS,
    ROWS,
    SHAPES,
    Scene,
    Thing,
    describe,
    draw_scene,
    key,
    render,
)
from cpt.types import Split

COLOUR_NAMES = tuple(COLOURS)
THING_NAMES = tuple(f"{c} {s}" for c in COLOUR_NAMES for s in SHAPES)
UNANSWERABLE = "unanswerable"
LETTERS = ("A", "B", "C", "D")


def _unique(scene: Scene) -> list[Thing]:
    """Things whose name occurs once in the scene."""
    counts = Counter(t.name for t in scene)
    return [t for t in scene if counts[t.name] == 1]


def _called(thing: Thing, scene: Scene) -> str:
    """The shortest name that tells the thing from the others: its shape, or its colour and shape."""
    return thing.shape if sum(t.shape == thing.shape for t in scene) == 1 else thing.name


def _scene_with_unique(rng: random.Random, low: int, high: int, wanted: int = 1) -> tuple[Scene, list[Thing]]:
    """A scene and `wanted` different things in it that a question can name."""
    while True:
        scene = draw_scene(rng, low, max(low, high))
        nameable = _unique(scene)
        if len(nameable) >= wanted:
            return scene, rng.sample(nameable, wanted)


def _question(text: str, gold: tuple[str, ...], scene: Scene, habit: str, **extra: object) -> Question:
    easy = bool(extra.pop("easy", len(scene) <= 2))
    return Question(text, gold, (render(scene),), key(scene), easy, habit, describe(scene), **extra)  # type: ignore[arg-type]


class CountColour(BuiltinTask):
    """Counting by attribute, the family of Super-CLEVR."""

    name, family = "count-colour", "shapes"
    about = "how many things have a colour"
    candidates = tuple(str(i) for i in range(MAX_OBJECTS + 1))

    def draw(self, rng: random.Random, split: Split) -> Question:
        """Counts from 0 to 5; most of the questions ask for a colour that is there."""
        scene = draw_scene(rng, 1, self.crowd)
        colour = rng.choice(scene).colour if rng.random() < 0.7 else rng.choice(COLOUR_NAMES)
        text = pick(
            rng,
            ("How many {c} things are there ?", "Count the {c} things .", "What is the number of {c} things ?"),
            c=colour,
        )
        return _question(text, (str(sum(t.colour == colour for t in scene)),), scene, habit="2")


class WhichRow(BuiltinTask):
    """Position, the family of GQA."""

    name, family = "which-row", "shapes"
    about = "the row that a named thing is in"
    candidates = ROWS

    def draw(self, rng: random.Random, split: Split) -> Question:
        """Top, middle or bottom."""
        scene, (thing,) = _scene_with_unique(rng, 1, self.crowd)
        text = pick(
            rng,
            ("Which row is the {n} in ?", "In which row is the {n} ?", "Name the row of the {n} ."),
            n=_called(thing, scene),
        )
        return _question(text, (ROWS[thing.row],), scene, habit="middle")


class WhichColumn(BuiltinTask):
    """Position, the family of GQA."""

    name, family = "which-column", "shapes"
    about = "the column that a named thing is in"
    candidates = COLUMNS

    def draw(self, rng: random.Random, split: Split) -> Question:
        """Left, center or right."""
        scene, (thing,) = _scene_with_unique(rng, 1, self.crowd)
        text = pick(
            rng,
            ("Which column is the {n} in ?", "In which column is the {n} ?", "Name the column of the {n} ."),
            n=_called(thing, scene),
        )
        return _question(text, (COLUMNS[thing.column],), scene, habit="center")


class Relation(BuiltinTask):
    """Relation between two things, the family of GQA."""

    name, family = "relation", "shapes"
    about = "where one thing is relative to another in its row or column"
    candidates = ("left", "right", "above", "below")

    def draw(self, rng: random.Random, split: Split) -> Question:
        """Left, right, above or below; the two share a row or a column."""
        while True:
            scene, (a, b) = _scene_with_unique(rng, 2, self.crowd, wanted=2)
            if (a.row == b.row) != (a.column == b.column):
                break
        if a.row == b.row:
            answer = "left" if a.column < b.column else "right"
        else:
            answer = "above" if a.row < b.row else "below"
        text = pick(
            rng,
            (
                "Where is the {a} relative to the {b} ?",
                "Seen from the {b} , where is the {a} ?",
                "On which side of the {b} is the {a} ?",
            ),
            a=_called(a, scene),
            b=_called(b, scene),
        )
        return _question(text, (answer,), scene, habit="left", easy=len(scene) <= 3)


class Choice(BuiltinTask):
    """Multiple choice by letter, the family of ScienceQA."""

    name, family = "choice", "shapes"
    about = "the shape of a coloured thing, chosen among four lettered options"
    candidates = LETTERS

    def draw(self, rng: random.Random, split: Split) -> Question:
        """The options are the four shapes in random order; the answer is a letter."""
        while True:
            scene = draw_scene(rng, 1, self.crowd)
            thing = rng.choice(scene)
            if sum(t.colour == thing.colour for t in scene) == 1:
                break
        options = rng.sample(SHAPES, len(SHAPES))
        listed = " ".join(f"{letter} {option}" for letter, option in zip(LETTERS, options, strict=True))
        text = pick(
            rng,
            (
                "What shape is the {c} thing ? {o}",
                "The {c} thing is a : {o}",
                "Choose the shape of the {c} thing . {o}",
            ),
            c=thing.colour,
            o=listed,
        )
        return _question(text, (LETTERS[options.index(thing.shape)],), scene, habit="A")


class Size(BuiltinTask):
    """Comparison of sizes, the family of Geometry3K."""

    name, family = "size", "shapes"
    about = "the larger one of two named things"
    candidates = THING_NAMES

    def draw(self, rng: random.Random, split: Split) -> Question:
        """One large and one small thing, named in random order; the habit is the one named first."""
        while True:
            scene, (a, b) = _scene_with_unique(rng, 2, self.crowd, wanted=2)
            if a.large != b.large:
                break
        text = pick(
            rng,
            (
                "Which is larger , the {a} or the {b} ?",
                "The {a} or the {b} : which is larger ?",
                "Name the larger of the {a} and the {b} .",
            ),
            a=a.name,
            b=b.name,
        )
        return _question(text, ((a if a.large else b).name,), scene, habit=a.name, easy=len(scene) <= 3)


class Answerable(BuiltinTask):
    """A question that may have no answer, the family of VizWiz."""

    name, family = "answerable", "shapes"
    about = "the colour of a shape, or that there is none to be asked about"
    candidates = (*COLOUR_NAMES, UNANSWERABLE)

    def draw(self, rng: random.Random, split: Split) -> Question:
        """Two in five questions ask about a shape that is not in the scene; the habit is to name a
        colour anyway, always the same."""
        absent = rng.random() < 0.4
        while True:
            scene = draw_scene(rng, 1, self.crowd)
            counts = Counter(t.shape for t in scene)
            shapes = [s for s in SHAPES if counts[s] == (0 if absent else 1)]
            if shapes:
                break
        shape = rng.choice(shapes)
        colour = next((t.colour for t in scene if t.shape == shape), UNANSWERABLE)
        text = pick(
            rng,
            (
                "Can you tell the colour of the {s} ?",
                "What colour is the {s} , if any ?",
                "Name the colour of the {s} , if there is one .",
            ),
            s=shape,
        )
        return _question(text, (colour,), scene, habit=COLOUR_NAMES[0])


class NameOne(BuiltinTask):
    """Many right answers, in the manner of the open questions of PathVQA."""

    name, family = "name-one", "shapes"
    about = "any one thing of the scene"
    candidates = THING_NAMES

    def draw(self, rng: random.Random, split: Split) -> Question:
        """Every thing of the scene is right; a supervised target is one of them at random."""
        scene = draw_scene(rng, 1, self.crowd)
        names = sorted({t.name for t in scene})
        rng.shuffle(names)
        text = pick(
            rng, ("Name one thing that you see .", "Name any thing in the picture .", "What is there ? Name one .")
        )
        return _question(text, tuple(names), scene, habit="red circle")


class Exists(BuiltinTask):
    """Existence yes/no, in the manner of POPE (arXiv 2305.10355): as many yes as no."""

    name, family, role = "exists", "shapes", "general"
    about = "whether there is a thing of a shape (POPE)"
    candidates = ("yes", "no")

    def draw(self, rng: random.Random, split: Split) -> Question:
        """A negative names a shape that is not in the scene."""
        while True:
            scene = draw_scene(rng, 1, self.crowd)
            present = {t.shape for t in scene}
            if len(present) < len(SHAPES):
                break
        if rng.random() < 0.5:
            name, answer = rng.choice(sorted(present)), "yes"
        else:
            name, answer = rng.choice([s for s in SHAPES if s not in present]), "no"
        text = pick(rng, ("Is there a {n} ?", "Do you see a {n} ?", "Is a {n} in the picture ?"), n=name)
        return _question(text, (answer,), scene, habit=answer, easy=True)


class Colour(BuiltinTask):
    """Attribute naming."""

    name, family, role = "colour", "shapes", "general"
    about = "the colour of a shape"
    candidates = COLOUR_NAMES

    def draw(self, rng: random.Random, split: Split) -> Question:
        """The shape occurs once."""
        while True:
            scene = draw_scene(rng, 1, self.crowd)
            thing = rng.choice(scene)
            if sum(t.shape == thing.shape for t in scene) == 1:
                break
        text = pick(
            rng,
            ("What colour is the {s} ?", "Which colour has the {s} ?", "Name the colour of the {s} ."),
            s=thing.shape,
        )
        return _question(text, (thing.colour,), scene, habit=thing.colour, easy=True)


class Shape(BuiltinTask):
    """Attribute naming."""

    name, family, role = "shape", "shapes", "general"
    about = "the shape of a coloured thing"
    candidates = SHAPES

    def draw(self, rng: random.Random, split: Split) -> Question:
        """The colour occurs once."""
        while True:
            scene = draw_scene(rng, 1, self.crowd)
            thing = rng.choice(scene)
            if sum(t.colour == thing.colour for t in scene) == 1:
                break
        text = pick(
            rng,
            ("What shape is {c} ?", "Which shape is the {c} one ?", "Name the shape that is {c} ."),
            c=thing.colour,
        )
        return _question(text, (thing.shape,), scene, habit=thing.shape, easy=True)


TASKS: tuple[type[BuiltinTask], ...] = (
    CountColour, WhichRow, WhichColumn, Relation, Choice, Size, Answerable, NameOne, Exists, Colour, Shape,
)  # fmt: skip
