"""Rewards that a YAML file holds: a list of components, one reward, or all rewards of a recipe."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cpt.recipe.load import refuse_carried_code
from cpt.recipe.rewards import include_sources
from cpt.recipe.source import RawRecipe, parse, read
from cpt.report.rewards.audit import example_of
from cpt.tasks import get_task, read_samples, task_names
from rewards.lab.attacks import Example
from rewards.lab.choose import Chosen, from_data

_LOOKED_AT, _EXAMPLES = 64, 3  # samples of a task, and how many of its usual answers are tried


def in_file(path: Path | None, trust: bool) -> Sequence[Chosen]:
    """The rewards of a file, if one is named."""
    return () if path is None else rewards_in(path, trust=trust)


def rewards_in(path: Path, *, trust: bool = False) -> list[Chosen]:
    """The rewards of a file.

    Those of a recipe are named by their place: `reward`, `tasks.<name>`, `arms.<name>`, `reward_sets.<name>`. Any other
    file has one reward, named like the file: a list of components, a mapping with `components` and `clip`, or a mapping
    with `type`.

    Args:
        trust: execute rewards whose code came with the file; see `cpt.recipe.load.refuse_carried_code`.

    Raises:
        ValueError: no such file, not YAML, not a reward, or code that is not trusted.
    """
    if not os.path.isfile(path):  # also if the name is too long for the file system
        raise ValueError(f"--rewards: {path}: there is no such file")
    data, places = parse(path.read_text(encoding="utf-8", errors="replace"), str(path))
    if not isinstance(data, Mapping) or "arms" not in data:
        plain = RawRecipe({"reward": data}, {(): f"{path}:1"} | {("reward", *key): at for key, at in places.items()})
        if not trust:
            refuse_carried_code(plain)
        return [_chosen(data, path.stem, path)]
    source = read(path)
    if not trust:
        refuse_carried_code(source)
    include_sources(source)
    found = [_chosen(reward, label, path) for label, reward in _of_recipe(source)]
    if not found:
        raise ValueError(f"{path}: has no `reward:`, so its tasks' own reward counts: accuracy-format")
    return found


def examples_in(path: Path) -> dict[str, list[Example]]:
    """The questions on which a recipe's rewards are audited, by label: those of each reward's own tasks.

    Empty if the file is no recipe.
    """
    data, _ = parse(path.read_text(encoding="utf-8", errors="replace"), str(path))
    if not isinstance(data, Mapping) or "arms" not in data:
        return {}
    tasks = read(path).data.get("tasks")
    asked: dict[str, list[Example]] = {}
    rewarded = set()
    for task in tasks if isinstance(tasks, list) else ():
        name = task.get("name") if isinstance(task, Mapping) else task
        if name not in task_names():
            continue
        samples = read_samples(get_task(name), "test", _LOOKED_AT)
        first = {sample.gold[0]: sample for sample in reversed(samples)}
        usual = Counter(sample.gold[0] for sample in samples).most_common(_EXAMPLES)
        asked[name] = [example_of(first[gold], samples) for gold, _ in usual]
        if isinstance(task, Mapping) and "reward" in task:
            rewarded.add(name)
    everywhere = [example for examples in asked.values() for example in examples]
    rest = [example for name, examples in asked.items() if name not in rewarded for example in examples]
    found = {label: everywhere for label, _ in _of_recipe(read(path))}
    return found | {f"tasks.{name}": asked[name] for name in rewarded} | {"reward": rest}


def _of_recipe(source: RawRecipe) -> Iterator[tuple[str, Any]]:
    if "reward" in source.data:
        yield "reward", source.data["reward"]
    tasks, arms = source.data.get("tasks"), source.data.get("arms")
    for task in tasks if isinstance(tasks, list) else ():
        if isinstance(task, Mapping) and "reward" in task:
            yield f"tasks.{task.get('name')}", task["reward"]
    for name, arm in arms.items() if isinstance(arms, Mapping) else ():
        if isinstance(arm, Mapping) and "reward" in arm:
            yield f"arms.{name}", arm["reward"]
    sets = source.data.get("reward_sets")
    yield from ((f"reward_sets.{name}", one) for name, one in (sets.items() if isinstance(sets, Mapping) else ()))


def _chosen(data: Any, label: str, path: Path) -> Chosen:
    clip = None
    if isinstance(data, Mapping) and "components" in data:
        clip, data = data.get("clip"), data["components"]
    try:
        return from_data(data, label, path.parent, clip)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
