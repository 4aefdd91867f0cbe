"""Recipes and overrides with damage of every kind, drawn by a seed, and what cpt makes of them.

A mutated recipe is one of the shipped ones, cut to a few arms, in which values, keys, structure or the very text are
changed. `python tests/unit/mutations.py 20000 0` tries as many as one likes and counts.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

os.environ["HF_HUB_OFFLINE"] = "1"  # a name of a model that does not exist is not looked for anywhere

from rich.console import Console

from cpt.cli.plan_table import print_plan
from cpt.plan.make import make_plan
from cpt.plan.preflight import check_fit, preflight
from cpt.recipe import RecipeError, load_recipe
from cpt.recipe.schema import Recipe

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
ACCEPTED, REFUSED, UNNAMED, CRASHED = "accepted", "refused in lines", "refused without file, line or key", "crashed"


class Raw(str):
    """Text that stands in the file as it is."""


@dataclass(frozen=True)
class Case:
    """One recipe's text and overrides."""

    text: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of a case: one of the four kinds, the lines of its errors or a traceback, and seconds."""

    kind: str
    told: str
    seconds: float


NUMBERS = [
    "0", "-1", "1", "2", "3", "7", "64", "1000", "100000", "2147483648", "9007199254740993", "9223372036854775808",
    "9" * 40, "9" * 400, "9" * 5000, "-" + "9" * 5000, "0.0", "-0.0", "0.5", "1.0", "1e-320", "1e-9", "1e9", "1e308",
    "-1e308", "1e999", "-1e999", ".inf", "-.inf", ".nan", "NaN", "1_000", "0x10", "010", "1e", "+5", "1e9999999999",
]  # fmt: skip
TEXTS = [
    "", " ", "a", "sft", "grpo", "lora", "full", "think", "count-colour", "parity", "exists", "~nosuchuser", "~", "/",
    "..", "../../etc", "-", "null", "true", "a/b", "org/name", "x" * 300, "x" * 5000, "é", "漢字", "\u202eabc", "🦆",
    "\x1b[31mred\x1b[0m", "\x07", "\x7f", "a\nb", "a\tb", "{demonstration}", "%s", "{}", "[bold]x[/bold]", "1e-4",
    "builtin/tiny-qwen2_5-vl", "builtin/none", "/dev/null", "/dev/zero", "__class__", "extends",
]  # fmt: skip
ESCAPES = [r'"\0"', r'"a\0b"', r'"\ud800"', r'"\x1b[2J"', r'"\U0001F986"', r'"\u2028"', "!!python/object:os.system x",
           "!!binary aGk=", "*nowhere", "&a {b: *a}", "<<", "? x", "[1, 2", "{a: 1", "'open", '"open', "|", ">-", "@",
           "`", "%", "- -", ": :", "a: b: c", "!!int x", "2001-01-01", "\t- x"]  # fmt: skip
# Sections that shipped recipes have and have not, right as they stand; parts of them are then mutated as well.
SECTIONS: list[tuple[tuple[str, ...], Any]] = [
    (("arms", "*", "kl"), {"coefficient": 0.1, "estimator": "k3", "in": "loss", "reference": "path", "path": "x"}),
    (("arms", "*", "replay"), {"type": "static", "tasks": ["shape"], "weights": {"shape": 0.0}}),
    (("arms", "*", "replay"), {"type": "buffer", "sampler": "uniform", "budget": 1, "samples": 8}),
    (("arms", "*", "replay"), {"type": "recap", "window": 5, "loss": "supervised"}),
    (("arms", "*", "merge"), {"type": "warp", "runs": 3, "interpolation": 0.5}),
    (("arms", "*", "merge"), "ema"),
    (("arms", "*", "filter"), {"type": "rif", "rollouts": 4, "min_pass": 0.1, "max_pass": 0.9}),
    (("arms", "*", "tuning"), {"type": "lora", "r": 8, "alpha": 16, "target_modules": ["q_proj"]}),
    (("arms", "*", "regularisers"), [{"type": "der", "samples": 8, "rows": 4}, {"type": "l2"}]),
    (("arms", "*", "trainer_args"), {"gradient_checkpointing": True, "fsdp": "full_shard", "report_to": ["x"]}),
    (("arms", "*", "sweep"), {"learning_rate": [1e-4, 1e-5], "method": {"max_grad_norm": [1.0, 2.0]}}),
    (("arms", "*", "reward"), [{"type": "accuracy", "weight": 0.5}, {"type": "length", "weight": 0.5}]),
    (("arms", "*", "method"), {"type": "sdft", "max_steps": 2, "demonstration": "{demonstration}"}),
    (("arms", "*", "method"), {"type": "remax", "max_steps": 2}),
    (("arms", "*", "method"), {"type": "sft", "data": {"type": "rollouts", "arm": "grpo"}}),
    (("arms", "*", "schedule"), "joint"),
    (("reward",), {"components": [{"type": "number", "relative": 0.1, "weight": 1}], "clip": [0, 1]}),
    (("reward",), [{"type": "python", "file": "mine.py", "name": "score", "weight": 1}]),
    (("reward",), [{"type": "python", "file": "x.py", "name": "score", "source": "def score(c, **_): return 1"}]),
    (("reward_sets",), {"one": [{"type": "accuracy", "weight": 1}]}),
    (("resources",), {"trainer_gpus": 1, "engine_gpus": 0.5}),
    (("rollout",), {"engine": "hf", "engines": 2, "max_model_len": 256, "max_num_seqs": 8}),
    (("trainer_args",), {"optim_args": "momentum=0.9", "lr_scheduler_kwargs": {"num_cycles": 0.5}}),
    (("seeds",), [0, 1, 2]),
    (("extends",), "other.yaml"),
    (("tasks",), [{"name": "count-colour", "samples": 64, "evaluation_samples": 8}]),
    (("evaluation",), {"samples": 8, "max_tokens": 16, "temperature": 0.5}),
]


@cache
def shipped() -> tuple[dict[str, Any], ...]:
    """But for the one whose pictures are not here."""
    paths = sorted({*RECIPES.glob("*.yaml")} - {RECIPES / "real_pictures.yaml"})
    return tuple(yaml.safe_load(path.read_text()) for path in paths)


@cache
def known_keys() -> tuple[str, ...]:
    """Every key that stands anywhere in a recipe."""
    found = set(re.findall(r'"([a-z_]+)": \{', json.dumps(Recipe.model_json_schema()["$defs"])))
    return tuple(sorted(found | set(Recipe.model_fields)))


def start(rng: random.Random) -> dict[str, Any]:
    """A shipped recipe with at most three of its arms."""
    recipe = deepcopy(rng.choice(shipped()))
    for name in rng.sample(sorted(recipe["arms"]), max(0, len(recipe["arms"]) - rng.randint(1, 3))):
        del recipe["arms"][name]
    recipe["rollout"] = {"engine": "hf"}
    if rng.random() < 0.6:
        path, section = rng.choice(SECTIONS)
        put(recipe, tuple(rng.choice(sorted(recipe["arms"])) if key == "*" else key for key in path), section)
    return recipe


def put(recipe: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    target = recipe
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = deepcopy(value)


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of everything in a recipe but itself."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in inner:
        yield (*path, key)
        yield from places(value, (*path, key))


def hostile(rng: random.Random) -> Any:
    """A value of any type."""
    kind = rng.random()
    if kind < 0.4:
        return Raw(rng.choice(NUMBERS))
    if kind < 0.65:
        return rng.choice(TEXTS)
    if kind < 0.75:
        return Raw(rng.choice(ESCAPES))
    if kind < 0.85:
        return rng.choice([None, True, False, [], {}, [[]], [{}], {"": 1}, {"a": {"b": {}}}])
    if kind < 0.9:
        depth = rng.choice([10, 70, 70, 1500])
        return Raw(rng.choice(["[" * depth + "]" * depth, "{a: " * depth + "1" + "}" * depth, "[" * depth]))
    if kind < 0.95:
        return [rng.choice([*TEXTS, 0, -1, 1.5, None]) for _ in range(rng.randint(1, 8))]
    return list(range(rng.choice([0, 5, 5, 5, 1500]) if rng.random() < 0.3 else 5))


def at(data: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        data = data[key]
    return data


def change_value(rng: random.Random, data: dict[str, Any], path: tuple[Any, ...]) -> None:
    at(data, path[:-1])[path[-1]] = hostile(rng)


def delete(rng: random.Random, data: dict[str, Any], path: tuple[Any, ...]) -> None:
    del at(data, path[:-1])[path[-1]]


def rename(rng: random.Random, data: dict[str, Any], path: tuple[Any, ...]) -> None:
    around = at(data, path[:-1])
    if isinstance(around, dict):
        key = path[-1]
        other = rng.choice([key + "s", key[:-1], key.upper(), rng.choice(TEXTS), rng.choice(known_keys()), key * 90])
        around[other] = around.pop(key)


def move(rng: random.Random, data: dict[str, Any], path: tuple[Any, ...]) -> None:
    value = deepcopy(at(data, path))
    delete(rng, data, path)
    targets = [data, *(found for where in places(data) if isinstance(found := at(data, where), dict | list))]
    target = rng.choice(targets)
    if isinstance(target, list):
        target.insert(rng.randint(0, len(target)), value)
    else:
        target[str(path[-1])] = value


def wrap(rng: random.Random, data: dict[str, Any], path: tuple[Any, ...]) -> None:
    around = at(data, path[:-1])
    inner = around[path[-1]]
    around[path[-1]] = rng.choice([[inner], {str(path[-1]): inner}, [inner, inner], {"type": inner}, str(inner)])


def add(rng: random.Random, data: dict[str, Any], path: tuple[Any, ...]) -> None:
    around = at(data, path)
    if isinstance(around, dict):
        around[rng.choice([*known_keys(), *TEXTS])] = hostile(rng)
    elif isinstance(around, list):
        around.insert(rng.randint(0, len(around)), hostile(rng))


CHANGES: list[Callable[[random.Random, dict[str, Any], tuple[Any, ...]], None]] = [
    change_value, change_value, change_value, change_value, delete, rename, move, wrap, add, add,
]  # fmt: skip


def written(data: Any) -> str:
    """As YAML on one line, which JSON nearly is."""
    if isinstance(data, Raw):
        return str(data)
    if isinstance(data, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {written(value)}" for key, value in data.items()) + "}"
    if isinstance(data, list):
        return "[" + ", ".join(map(written, data)) + "]"
    return json.dumps(data)


def damaged(rng: random.Random, text: str) -> str:
    """The text with a slip of the pen, or with malice."""
    lines = text.splitlines()
    number = rng.randrange(len(lines))
    kind = rng.randrange(9)
    if kind == 0:
        place = rng.randrange(len(text))
        return text[:place] + rng.choice(list("{}[]:,&*!|>'\"%@`#\t\n-? \\é\x07\u2028")) + text[place + 1 :]
    if kind == 1:
        return "\n".join([*lines[: number + 1], *lines[number:]])
    if kind == 2:
        return text[: rng.randrange(len(text))]
    if kind == 3:
        return "\n".join([*lines[:number], *lines[number + 1 :]])
    if kind == 4:
        return "\n".join([*lines[:number], rng.choice(["  ", "\t", "- "]) + lines[number], *lines[number + 1 :]])
    if kind == 5:
        bombs = [f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9)}]" for i in range(1, rng.choice([3, 9]))]
        return "\n".join(["x0: &x0 [1, 1, 1, 1, 1, 1, 1, 1, 1]", *bombs, text])
    if kind == 6:
        return "\n".join([*lines[:number], f"? {rng.choice(['[a]', '{a: b}', 'x'])}", ": 1", *lines[number:]])
    if kind == 7:
        return text + rng.choice(
            ["---\nversion: 1\n", "...\n", "\n%YAML 1.1\n", "\ufeff", "seeds: [" + "0, " * 2000 + "]"]
        )
    return text.replace(": ", rng.choice([":", " : ", "=", ": !!str "]), rng.randint(1, 3))


def recipe_case(rng: random.Random) -> Case:
    """A recipe with one to three changes; in one of eight the text is damaged as well or instead."""
    data = start(rng)
    damage = rng.random() < 0.125
    for _ in range(0 if damage and rng.random() < 0.5 else rng.choice([1, 1, 1, 2, 3])):
        found = list(places(data))
        if found:
            rng.choice(CHANGES)(rng, data, rng.choice(found))
    text = "\n".join(f"{json.dumps(str(key))}: {written(value)}" for key, value in data.items()) + "\n"
    return Case(damaged(rng, text) if damage else text, ())


def override_case(rng: random.Random) -> Case:
    """A recipe as it should be, and one to three hostile overrides."""
    data = start(rng)
    found = list(places(data))
    overrides = []
    for _ in range(rng.choice([1, 1, 2, 3])):
        path = [str(key) for key in rng.choice(found)]
        kind = rng.random()
        if kind < 0.15:
            path.append(rng.choice([*known_keys(), *TEXTS]))
        elif kind < 0.25:
            path[-1] = rng.choice([*known_keys(), *TEXTS, "0", "99", "9" * 5000, "-1", "²"])
        elif kind < 0.3:
            path = [rng.choice(known_keys()), *path]
        value = written(hostile(rng))
        if rng.random() < 0.1:
            value = rng.choice(["", "[", "{a: 1", "\x00", "&a [*a]", "a: b", "- x", written(rng.choice(SECTIONS)[1])])
        sign = "=" if rng.random() < 0.97 else rng.choice(["", ":", "=="])
        overrides.append(".".join(path) + sign + value)
    text = "\n".join(f"{json.dumps(str(key))}: {written(value)}" for key, value in data.items()) + "\n"
    return Case(text, tuple(overrides))


def case(seed: int) -> Case:
    """Number `seed` of all cases: every third one has overrides."""
    rng = random.Random(f"mutation/{seed}")
    return override_case(rng) if seed % 3 == 2 else recipe_case(rng)


def prepare(folder: Path) -> None:
    """What recipes name."""
    (folder / "rewards").mkdir(parents=True)
    for path in (RECIPES / "rewards").glob("*.py"):
        (folder / "rewards" / path.name).write_text(path.read_text())
    (folder / "mine.py").write_text("def score(completion, *, gold, **_):\n    return float(gold[0] in completion)\n")
    (folder / "other.yaml").write_text((RECIPES / "quickstart.yaml").read_text())


def tried(one: Case, folder: Path) -> Outcome:
    """What cpt plan and the checks of cpt run make of a case. Nothing is started."""
    path = folder / "case.yaml"
    path.write_bytes(one.text.encode("utf-8", "surrogatepass"))
    began = time.perf_counter()
    try:
        recipe = load_recipe(path, one.overrides)
        plan = make_plan(recipe)
        check_fit(plan)
        screen = io.StringIO()
        print_plan(plan, Console(file=screen, width=160), folder / "out")
        acting = [char for char in screen.getvalue() if not char.isprintable() and char != "\n"]
        assert not acting, f"the plan's table holds {acting[:5]}"
        recipe.resolved_hash()
        preflight(recipe, folder / "out")
    except Exception as error:  # noqa: BLE001  every other kind than these two is a crash
        seconds = time.perf_counter() - began
        if type(error) not in (ValueError, RecipeError):
            return Outcome(CRASHED, traceback.format_exc(), seconds)
        lines = str(error).split("\n")
        named = all(NAMED.match(line.replace(str(folder), "")) and line.isprintable() for line in lines)
        return Outcome(REFUSED if named else UNNAMED, str(error), seconds)
    return Outcome(ACCEPTED, "", time.perf_counter() - began)


NAMED = re.compile(
    r"(/(case|other)\.yaml:\d+|command line|--[a-z]+): "
    r"(not valid YAML: |['\"].*['\"] is not an override|a recipe is |has no version|.+?: ).+"
)


def main(count: int, first: int) -> int:
    """Try cases and count what became of them; 1 if any was not as it should be."""
    counts: Counter[str] = Counter()
    slowest = (0.0, -1)
    with TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        for seed in range(first, first + count):
            found = tried(case(seed), folder)
            counts[found.kind] += 1
            slowest = max(slowest, (found.seconds, seed))
            if found.kind in (CRASHED, UNNAMED) or found.seconds > 10:
                print(f"--- case {seed}: {found.kind}, {found.seconds:.1f} s\n{found.told[-1500:]}", flush=True)
    print(dict(counts), f"slowest: {slowest[0]:.1f} s, case {slowest[1]}")
    return int(bool(counts[CRASHED] or counts[UNNAMED]))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
