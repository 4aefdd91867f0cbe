"""The family of shapes: eight stage tasks and three general ones over `cpt.tasks.world.scene`.

Every question calls things by what is unique in their scene, so each has a well-defined answer. An instance is easy
when the scene is sparse; on the others the base model mostly follows the habit given here.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from operator import attrgetter

from cpt.tasks.world.base import BuiltinTask, Question
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


def called(thing: Thing, scene: Scene) -> str:
    """The shortest name that tells the thing from the others: its shape, or its colour and shape."""
    return thing.shape if sum(t.shape == thing.shape for t in scene) == 1 else thing.name


class SceneTask(BuiltinTask):
    """Draws scenes of at most `crowd` things; subclasses ask about them."""

    family = "shapes"

    def scene(self, rng: random.Random, low: int = 1) -> Scene:
        """A scene of at least `low` things."""
        return draw_scene(rng, low, max(low, self.crowd))

    def nameable(self, rng: random.Random, wanted: int = 1) -> tuple[Scene, list[Thing]]:
        """A scene and `wanted` different things in it that a question can name, in random order."""
        while True:
            scene = self.scene(rng, wanted)
            counts = Counter(t.name for t in scene)
            unique = [t for t in scene if counts[t.name] == 1]
            if len(unique) >= wanted:
                return scene, rng.sample(unique, wanted)

    def pair(self, rng: random.Random, holds: Callable[[Thing, Thing], bool]) -> tuple[Scene, Thing, Thing]:
        """A scene and two things in it that a question can name, of which something holds."""
        while True:
            scene, (a, b) = self.nameable(rng, 2)
            if holds(a, b):
                return scene, a, b

    def only(self, rng: random.Random, what: str) -> tuple[Scene, Thing]:
        """A scene and the only thing in it of its colour, or its shape, whichever `what` says."""
        of = attrgetter(what)
        while True:
            scene = self.scene(rng)
            thing = rng.choice(scene)
            if sum(of(t) == of(thing) for t in scene) == 1:
                return scene, thing

    def ask(
        self, rng: random.Random, scene: Scene, *gold: str, habit: str, easy: bool | None = None, **fields: str
    ) -> Question:
        """A question about the scene, whose picture decides the split; easy by default with at most two things."""
        easy = len(scene) <= 2 if easy is None else easy
        return Question(self.phrase(rng, **fields), gold, (render(scene),), key(scene), easy, habit, describe(scene))


class CountColour(SceneTask):
    """Counting by attribute, the family of Super-CLEVR."""

    name = "count-colour"
    about = "how many things have a colour"
    candidates = tuple(str(i) for i in range(MAX_OBJECTS + 1))
    phrasings = ("How many {c} things are there ?", "Count the {c} things .", "What is the number of {c} things ?")

    def draw(self, rng: random.Random, split: Split) -> Question:
        """Counts from 0 to 5; most of the questions ask for a colour that is there."""
        scene = self.scene(rng)
        colour = rng.choice(scene).colour if rng.random() < 0.7 else rng.choice(COLOUR_NAMES)
        return self.ask(rng, scene, str(sum(t.colour == colour for t in scene)), habit="2", c=colour)


class WhichRow(SceneTask):
    """Position, the family of GQA."""

    name = "which-row"
    about = "the row that a named thing is in"
    candidates = ROWS
    phrasings = ("Which row is the {n} in ?", "In which row is the {n} ?", "Name the row of the {n} .")

    def draw(self, rng: random.Random, split: Split) -> Question:
        """Top, middle or bottom."""
        scene, (thing,) = self.nameable(rng)
        return self.ask(rng, scene, ROWS[thing.row], habit="middle", n=called(thing, scene))


class WhichColumn(SceneTask):
    """Position, the family of GQA."""

    name = "which-column"
    about = "the column that a named thing is in"
    candidates = COLUMNS
    phrasings = ("Which column is the {n} in ?", "In which column is the {n} ?", "Name the column of the {n} .")

    def draw(self, rng: random.Random, split: Split) -> Question:
        """Left, center or right."""
        scene, (thing,) = self.nameable(rng)
        return self.ask(rng, scene, COLUMNS[thing.column], habit="center", n=called(thing, scene))


class Relation(SceneTask):
    """Relation between two things, the family of GQA."""

    name = "relation"
    about = "where one thing is relative to another in its row or column"
    candidates = ("left", "right", "above", "below")
    phrasings = (
        "Where is the {a} relative to the {b} ?",
        "Seen from the {b} , where is the {a} ?",
        "On which side of the {b} is the {a} ?",
    )

    def draw(self, rng: random.Random, split: Split) -> Question:
        """Left, right, above or below; the two share a row or a column."""
        scene, a, b = self.pair(rng, lambda a, b: (a.row == b.row) != (a.column == b.column))
        if a.row == b.row:
            answer = "left" if a.column < b.column else "right"
        else:
            answer = "above" if a.row < b.row else "below"
        easy = len(scene) <= 3
        return self.ask(rng, scene, answer, habit="left", easy=easy, a=called(a, scene), b=called(b, scene))


class Choice(SceneTask):
    """Multiple choice by letter, the family of ScienceQA."""

    name = "choice"
    about = "the shape of a coloured thing, chosen among four lettered options"
    candidates = LETTERS
    phrasings = (
        "What shape is the {c} thing ? {o}",
        "The {c} thing is a : {o}",
        "Choose the shape of the {c} thing . {o}",
    )

    def draw(self, rng: random.Random, split: Split) -> Question:
        """The options are the four shapes in random order; the answer is a letter."""
        scene, thing = self.only(rng, "colour")
        options = rng.sample(SHAPES, len(SHAPES))
        listed = " ".join(f"{letter} {option}" for letter, option in zip(LETTERS, options, strict=True))
        return self.ask(rng, scene, LETTERS[options.index(thing.shape)], habit="A", c=thing.colour, o=listed)


class Size(SceneTask):
    """Comparison of sizes, the family of Geometry3K."""

    name = "size"
    about = "the larger one of two named things"
    candidates = THING_NAMES
    phrasings = (
        "Which is larger , the {a} or the {b} ?",
        "The {a} or the {b} : which is larger ?",
        "Name the larger of the {a} and the {b} .",
    )

    def draw(self, rng: random.Random, split: Split) -> Question:
        """One large and one small thing, named in random order; the habit is the one named first."""
        scene, a, b = self.pair(rng, lambda a, b: a.large != b.large)
        larger = a if a.large else b
        return self.ask(rng, scene, larger.name, habit=a.name, easy=len(scene) <= 3, a=a.name, b=b.name)


class Answerable(SceneTask):
    """A question that may have no answer, the family of VizWiz."""

    name = "answerable"
    about = "the colour of a shape, or that there is none to be asked about"
    candidates = (*COLOUR_NAMES, UNANSWERABLE)
    phrasings = (
        "Can you tell the colour of the {s} ?",
        "What colour is the {s} , if any ?",
        "Name the colour of the {s} , if there is one .",
    )

    def draw(self, rng: random.Random, split: Split) -> Question:
        """Two in five questions ask about a shape that is not in the scene; the habit is to name a
        colour anyway, always the same."""
        absent = rng.random() < 0.4
        while True:
            scene = self.scene(rng)
            counts = Counter(t.shape for t in scene)
            shapes = [s for s in SHAPES if counts[s] == (0 if absent else 1)]
            if shapes:
                break
        shape = rng.choice(shapes)
        colour = next((t.colour for t in scene if t.shape == shape), UNANSWERABLE)
        return self.ask(rng, scene, colour, habit=COLOUR_NAMES[0], s=shape)


class NameOne(SceneTask):
    """Many right answers, in the manner of the open questions of PathVQA."""

    name = "name-one"
    about = "any one thing of the scene"
    candidates = THING_NAMES
    phrasings = ("Name one thing that you see .", "Name any thing in the picture .", "What is there ? Name one .")

    def draw(self, rng: random.Random, split: Split) -> Question:
        """Every thing of the scene is right; a supervised target is one of them at random."""
        scene = self.scene(rng)
        names = sorted({t.name for t in scene})
        rng.shuffle(names)
        return self.ask(rng, scene, *names, habit="red circle")


class Exists(SceneTask):
    """Existence yes/no, in the manner of POPE (arXiv 2305.10355): as many yes as no."""

    name, role = "exists", "general"
    about = "whether there is a thing of a shape (POPE)"
    candidates = ("yes", "no")
    phrasings = ("Is there a {n} ?", "Do you see a {n} ?", "Is a {n} in the picture ?")

    def draw(self, rng: random.Random, split: Split) -> Question:
        """A negative names a shape that is not in the scene."""
        while True:
            scene = self.scene(rng)
            present = {t.shape for t in scene}
            if len(present) < len(SHAPES):
                break
        if rng.random() < 0.5:
            name, answer = rng.choice(sorted(present)), "yes"
        else:
            name, answer = rng.choice([s for s in SHAPES if s not in present]), "no"
        return self.ask(rng, scene, answer, habit=answer, easy=True, n=name)


class Colour(SceneTask):
    """Attribute naming; the shape occurs once."""

    name, role = "colour", "general"
    about = "the colour of a shape"
    candidates = COLOUR_NAMES
    phrasings = ("What colour is the {s} ?", "Which colour has the {s} ?", "Name the colour of the {s} .")

    def draw(self, rng: random.Random, split: Split) -> Question:
        """Always easy."""
        scene, thing = self.only(rng, "shape")
        return self.ask(rng, scene, thing.colour, habit=thing.colour, easy=True, s=thing.shape)


class Shape(SceneTask):
    """Attribute naming; the colour occurs once."""

    name, role = "shape", "general"
    about = "the shape of a coloured thing"
    candidates = SHAPES
    phrasings = ("What shape is {c} ?", "Which shape is the {c} one ?", "Name the shape that is {c} .")

    def draw(self, rng: random.Random, split: Split) -> Question:
        """Always easy."""
        scene, thing = self.only(rng, "colour")
        return self.ask(rng, scene, thing.shape, habit=thing.shape, easy=True, c=thing.colour)


TASKS: tuple[type[BuiltinTask], ...] = (
    CountColour, WhichRow, WhichColumn, Relation, Choice, Size, Answerable, NameOne, Exists, Colour, Shape,
)  # fmt: skip
