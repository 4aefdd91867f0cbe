"""Run folders with one thing wrong in them, and what report and resume make of it.

`python tests/unit/damage.py 2000` tries as many cases, finished and unfinished runs in turn, and counts the outcomes;
`python tests/unit/damage.py 2000 0 RUN RECIPE` tries them on a copy of a run's folder.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from synthetic import Arm, Plan, Recipe, Stage, make_run, reseal

from cpt.common.errors import RunFailed
from cpt.common.files import SEAL, append_jsonl, write_json_atomic
from cpt.evaluate.drift import DriftRow, write_drift
from cpt.methods.filtering import RIF, FilterFile, PromptRollouts, write_filter
from cpt.report.load import load_run
from cpt.store.checks import check_results
from cpt.store.folder import GENERATION
from cpt.store.run_store import RunStore
from cpt.train.resume import Origin, last_checkpoint, seal_checkpoint

# Files that nothing reads again, or that the next call writes again in any case.
OUTPUTS = {"report.html", "summary.json", ".lock"}
REWRITTEN_BY_RUN = {"recipe.yaml"}


@dataclass(frozen=True)
class Case:
    """A run folder by hand, and what a run of its recipe would be."""

    root: Path
    recipe: Recipe
    plan: Plan
    unfinished: Stage | None


def make_case(root: Path, *, finished: bool) -> Case:
    """Two arms on three tasks with drift, a filter, policies; unfinished: the last stage has a checkpoint at step 2."""
    arms = [Arm("sft"), Arm("grpo", "grpo")]
    store = make_run(root, arms, samples=4, steps=3, stop_after=6 if finished else 5, during=(1, 2))
    stages = [
        Stage(arm.name, arm.family, arm.sweep, 0, i, task, {"type": arm.method}, 3)
        for arm in arms
        for i, task in enumerate("abc", start=1)
    ]
    recipe = Recipe((root / "recipe.yaml").read_text())
    for number, stage in enumerate(stages[: 6 if finished else 5]):
        where = store.stage(stage)
        (where.policy / "config.json").write_text(json.dumps({"model_type": "toy", "number": number}))
        (where.policy / "model.safetensors").write_bytes(random.Random(number).randbytes(9000))
        rows = [DriftRow(stage.task, "new", f"{stage.task}/{i}", 0.1 * number + i, 0.2, 4, 4) for i in range(3)]
        write_drift(where.drift, rows)
        store.mark_measured(where, "drift", stage.key, "", [where.drift])
    filtered = store.stage(stages[3])
    prompts = [PromptRollouts(f"a/{i}", "a", ("yes", "no"), (1.0, 0.0), (True, False)) for i in range(3)]
    write_filter(filtered.filter, FilterFile(stages[3].key, RIF(type="rif", rollouts=2), prompts, [True] * 3))
    if not finished:
        where = store.begin_stage(stages[5])
        for step in (1, 2):
            append_jsonl(where.metrics, {"step": step, "loss": 1.0 / step, "step_s": 0.5})
        checkpoint = where.checkpoints / "checkpoint-2"
        checkpoint.mkdir()
        for name in ("optimizer.pt", "rng_state.pth", "adapter_model.safetensors"):
            (checkpoint / name).write_bytes(random.Random(name).randbytes(9000))
        for name in ("trainer_state.json", "adapter_config.json"):
            (checkpoint / name).write_text(json.dumps({"global_step": 2}))
    reseal(root)
    if not finished:
        seal_checkpoint(checkpoint, 2, origin_of(store, stages[5]))
    return Case(root, recipe, Plan("abc", ("x", "y"), stages), None if finished else stages[5])


def origin_of(store: RunStore, stage: Stage) -> Origin:
    where = store.stage(stage)
    return Origin(f"{stage.key}/0", (where.metrics, where.rollouts))


# ---- damage


def files_of(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file() and path.name != ".lock")


def flip(path: Path, rng: random.Random, root: Path) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def truncate(path: Path, rng: random.Random, root: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))])


def zero(path: Path, rng: random.Random, root: Path) -> None:
    content = path.read_bytes()
    start = rng.randrange(len(content))
    block = content[start : start + 4096]
    path.write_bytes(content[:start] + bytes(len(block)) + content[start + len(block) :])


def exchange(path: Path, rng: random.Random, root: Path) -> None:
    others = [other for other in files_of(root) if other.suffix == path.suffix and other != path]
    if not others:
        return truncate(path, rng, root)
    other = rng.choice(others)
    kept = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(kept)


def exchange_folders(path: Path, rng: random.Random, root: Path) -> None:
    """Of two stages, or of two policies."""
    name, stages = rng.choice(["policy", ""]), sorted(root.glob("arms/*/*/*"))
    if len(stages) < 2:
        return flip(path, rng, root)
    one, other = (folder / name for folder in rng.sample(stages, 2))
    if not (one.exists() and other.exists()):
        return flip(path, rng, root)
    one.rename(root / "aside")
    other.rename(one)
    (root / "aside").rename(other)


def delete(path: Path, rng: random.Random, root: Path) -> None:
    path.unlink()


WHOLE = (b"", b"[]", b"null", b"7", b'"text"', b"{}", b"\xff\xfe\x00", b"[" * 10**5, b"9" * 5000)
VALUES = (None, 7, -1, 2.5, "text", [], {}, True, [1], 10**30)


def replace_whole(path: Path, rng: random.Random, root: Path) -> None:
    path.write_bytes(rng.choice(WHOLE))


def put_something_else(path: Path, rng: random.Random, root: Path) -> None:
    path.unlink()
    kind = rng.choice(["folder", "pipe", "link", "loop"])
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path if kind == "loop" else root / "nowhere")


def change_type(path: Path, rng: random.Random, root: Path) -> None:
    """Of some value in the JSON."""
    _change_type(path, rng, root, sealed=False)


def forge(path: Path, rng: random.Random, root: Path) -> None:
    """The same, with a seal that agrees: what comes of that is the forger's, as long as it is no traceback."""
    _change_type(path, rng, root, sealed=True)


def _change_type(path: Path, rng: random.Random, root: Path, *, sealed: bool) -> None:
    if path.suffix != ".json":
        return flip(path, rng, root)
    content = json.loads(path.read_text())
    seal = content.pop(SEAL, None)
    at: Any = content
    while True:
        key = rng.choice(list(at) if isinstance(at, dict) else range(len(at)))
        if not (isinstance(at[key], dict | list) and at[key] and rng.random() < 0.7):
            break
        at = at[key]
    at[key] = rng.choice([value for value in VALUES if value != at[key]])
    if sealed and seal is not None:
        write_json_atomic(path, content, sealed=True)
    else:
        path.write_text(json.dumps(content if seal is None else {**content, SEAL: seal}))


DAMAGE: dict[str, Callable[[Path, random.Random, Path], None]] = {
    "flip": flip,
    "truncate": truncate,
    "zero": zero,
    "exchange": exchange,
    "exchange folders": exchange_folders,
    "delete": delete,
    "replace": replace_whole,
    "something else": put_something_else,
    "type": change_type,
    "forge": forge,
}


# ---- what becomes of it


def state(root: Path) -> dict[str, bytes | str]:
    """What every file says: JSON by its content, all else by its bytes."""
    found: dict[str, bytes | str] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            found[name] = "odd"
        elif path.is_file() and path.suffix == ".json":
            found[name] = _json(path)
        elif path.is_file():
            found[name] = path.read_bytes()
        elif not any(path.iterdir()):
            found[name] = "empty folder"
    return {name: content for name, content in found.items() if Path(name).name not in OUTPUTS}


def _json(path: Path) -> bytes | str:
    try:
        return json.dumps(json.loads(path.read_text()), sort_keys=True)
    except (ValueError, RecursionError):
        return path.read_bytes()


def shown(root: Path) -> Any:
    """All that a report is made from."""
    run = load_run(root)
    arms = {
        arm.name: (
            [asdict(record) for record in arm.records.values()],
            [(stage.plan, stage.trained, stage.evaluated, stage.metrics, stage.drift) for stage in arm.stages.values()],
        )
        for arm in run.arms
    }
    return run.manifest, run.plan, run.recipe_text, run.events, arms, run.notes


DESCRIBED: dict[str, Any] = {"versions": {}, "hardware": {}, "git": {}}


def resumed(case: Case, root: Path) -> tuple[list[bool], int, tuple[str, ...]]:
    """What a call of the recipe finds done, the step at which it goes on in the unfinished stage, and its notes."""
    # Which versions and hardware there are takes longer to find out than all the rest.
    with patch("cpt.store.manifest.describe", lambda: DESCRIBED), RunStore(root).open_or_create(case.recipe) as store:
        store.write_plan(case.plan)
        bases = [(base["seed"], base["prompt"], base["key"]) for base in case.plan.as_dict()["bases"]]
        check_results(store, case.plan.stages, bases)
        done = [store.is_measured(store.base_dir(seed, prompt), GENERATION, key) for seed, prompt, key in bases]
        for stage in case.plan.stages:
            measured = store.is_measured(store.stage(stage), "drift", stage.key)
            done += [store.is_trained(stage), store.is_done(stage), measured]
        step, notes = 0, ()
        if case.unfinished is not None:
            where = store.begin_stage(case.unfinished)
            found = last_checkpoint(where.checkpoints, (), origin_of(store, case.unfinished))
            step, notes = found.step, found.notes
        store.finish()
    return done, step, notes


def refused(call: Callable[[], Any]) -> tuple[Any, str]:
    """What it returns, or the line that it refuses with. A line has no Python in it."""
    try:
        return call(), ""
    except (ValueError, RunFailed) as error:
        text = str(error)
        assert len(text.splitlines()) == 1 and "/" in text and "Error" not in text, text
        return None, text


def outcome(case: Case, root: Path, before: Any, plain: dict[str, bytes | str], *, forged: bool = False) -> str:
    """How report and resume take a damaged folder.

    Args:
        before: `shown` and `resumed` of the folder without damage.
        plain: its `state`.
        forged: what is accepted is not looked at.
    """
    damaged = state(root)
    if damaged == plain:
        return "no difference"
    seen, line = refused(lambda: shown(root))
    result, refusal = refused(lambda: resumed(case, root))
    if forged:
        return "forged"
    if line:
        report = "report refuses"
    elif seen == before[0]:
        report = "report does not need it"
    else:
        assert _only_missing(seen, before[0], damaged, plain), "the report shows something else in silence"
        report = "report says what is missing"
    if refusal:
        return f"{report}; run refuses"
    if result == before[1]:
        after = state(root)
        left = [name for name, content in damaged.items() if content != plain.get(name) and after.get(name) == content]
        left += [name for name in plain if name not in damaged and name not in after]
        if case.unfinished is not None:  # a kill leaves the same
            left = [name for name in left if not _is_prefix(damaged.get(name, b""), plain.get(name))]
        if "events.jsonl" not in damaged:  # the advice about a damaged one
            left = [name for name in left if name != "events.jsonl"]
        assert {Path(name).name for name in left} <= REWRITTEN_BY_RUN, f"the run goes on from {left}"
        return f"{report}; run writes it again"
    (done, step, notes), (all_done, newest, _) = result, before[1]
    assert all(was or not now for now, was in zip(done, all_done, strict=True)), "more is done than was"
    assert step <= newest and (step == newest or notes or step == 0)
    return f"{report}; run makes it again"


def _only_missing(seen: Any, before: Any, damaged: dict[str, Any], plain: dict[str, Any]) -> bool:
    """Whether all that is shown was shown before, and what is not belongs to files that are not there."""
    missing = {
        name for name in plain if name not in damaged or damaged[name] == "odd" or f"{name}/" in "".join(damaged)
    }
    cut = {name for name in plain if name.endswith(".jsonl") and _is_prefix(damaged.get(name), plain[name])}
    for arm, (records, stages) in seen[4].items():
        known_records, known_stages = before[4][arm]
        if any(record not in known_records for record in records):
            return False
        for ours, theirs in zip(stages, known_stages, strict=True):
            if ours[0] != theirs[0] or (ours[1] and not theirs[1]) or (ours[2] and not theirs[2]):
                return False
            if any(row not in theirs[3] for row in ours[3]) or not (isinstance(ours[4], str) or ours[4] == theirs[4]):
                return False
    return bool(missing or cut) and seen[1] == before[1] and all(event in before[3] for event in seen[3])


def _is_prefix(part: Any, whole: Any) -> bool:
    """What a kill or a power cut may leave: the beginning of a file of lines, perhaps with zeros after it."""
    both = isinstance(part, bytes) and isinstance(whole, bytes)
    return both and part != whole and whole.startswith(part.rstrip(b"\0"))


def one_case(case: Case, number: int, before: Any, plain: dict[str, bytes | str], aside: Path) -> tuple[str, str]:
    """Damage a copy of the folder; (what was done, what became of it)."""
    rng = random.Random(number)
    shutil.copytree(case.root, aside, symlinks=True)
    try:
        kind = rng.choice(list(DAMAGE))
        path = rng.choice(files_of(aside))
        DAMAGE[kind](path, rng, aside)
        what = f"case {number}: {kind} of {path.relative_to(aside)}"
        try:
            return what, outcome(case, aside, before, plain, forged=kind == "forge")
        except Exception as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    finally:
        shutil.rmtree(aside)


def before_damage(case: Case, aside: Path) -> tuple[Any, dict[str, bytes | str]]:
    shutil.copytree(case.root, aside)
    found = (shown(aside), resumed(case, aside))
    shutil.rmtree(aside)
    return found, state(case.root)


def of_run(root: Path, recipe_path: Path) -> Case:
    """A finished run of a recipe, as it lies there."""
    from cpt.plan.make import make_plan
    from cpt.recipe import load_recipe

    recipe: Any = load_recipe(recipe_path)
    plan: Any = make_plan(recipe)
    return Case(root, recipe, plan, None)


def main(cases: int, first: int = 0, *run: str) -> None:
    """Tries damage on runs by hand, or with a run's folder and its recipe on that."""
    with tempfile.TemporaryDirectory() as folder:
        aside = Path(folder) / "aside"
        made = [make_case(Path(folder) / name, finished=name == "finished") for name in ("finished", "unfinished")]
        if run:
            made = [of_run(*map(Path, run))] * 2
        known = [before_damage(case, aside) for case in made]
        counts: Counter[str] = Counter()
        for number in range(first, first + cases):
            try:
                _, found = one_case(made[number % 2], number, *known[number % 2], aside)
                counts[found] += 1
            except AssertionError as error:
                counts["WRONG"] += 1
                print(error)
        for found, count in counts.most_common():
            print(f"{count:6d}  {found}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]), *sys.argv[3:])
