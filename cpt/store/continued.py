"""Whether a run folder may be continued: same recipe, same format, same data and model."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from cpt.common.digests import file_digest
from cpt.common.files import read_json
from cpt.store.folder import FORMAT_VERSION, MANIFEST_ADVICE, RecipeLike, check_ours
from cpt.store.schemas import Manifest, Plan

PLANNED = {"stages": ("arm", "seed", "index"), "bases": ("seed", "prompt")}
"""Part of a plan → the keys that identify one of its entries."""


def check_may_go_on(root: Path, recipe: RecipeLike) -> None:
    """ValueError unless `root` is absent, empty, or a run of this recipe in this format."""
    check_ours(root)
    if (root / "manifest.json").exists() or (root / "plan.json").exists():
        check_same_recipe(root, recipe)


def planned_before(root: Path, new: dict[str, Any]) -> dict[str, Any] | None:
    """plan.json; None without one.

    Raises:
        ValueError: it is damaged, or `new` can't take its place (`check_same_work`, `check_whole_run`).
    """
    if not (root / "plan.json").exists():
        return None
    old = read_json(root / "plan.json", Plan, sealed=True)
    check_same_work(root, old, new)
    check_whole_run(root, old, new)
    return old


def check_same_recipe(root: Path, recipe: RecipeLike) -> None:
    """ValueError, with the difference, if the folder holds a run of another recipe or of another format."""
    manifest = root / "manifest.json"
    if manifest.exists():
        version = read_json(manifest, advice=MANIFEST_ADVICE).get("format_version")
        known = {} if isinstance(version, int) and version != FORMAT_VERSION else read_manifest(root)
    else:  # the manifest is lost: the plan says which recipe it was
        known = read_json(root / "plan.json", Plan)
        version = known.get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{root}: a run of format {version}, this cpt writes {FORMAT_VERSION}; cpt report reads it. To go on, use "
            "the cpt that made it, choose another --out, or --fresh to delete it and start again"
        )
    if known.get("recipe_hash") == recipe.resolved_hash():
        return
    stored = root / "recipe.yaml"
    old, new = (_without(recipe.may_change, text) for text in (read_recipe_text(root), recipe.dump_yaml()))
    diff = "\n".join(difflib.unified_diff(old, new, str(stored), "the recipe given", lineterm="", n=2))
    raise ValueError(
        f"{root}: holds a run of another recipe; choose another --out, or --fresh to delete it and start again\n"
        f"{diff or '(the same text, which this version of cpt resolves differently)'}"
    )


def _without(sections: Collection[str], text: str) -> list[str]:
    """The lines of a resolved recipe but for these sections."""
    lines, kept = [], True
    for line in text.splitlines():
        if line[:1] not in (" ", "-"):
            kept = line.partition(":")[0] not in sections
        if kept:
            lines.append(line)
    return lines


def changes_of(root: Path, recipe: RecipeLike) -> list[str]:
    """Lines that the recipe given has and recipe.yaml has not, and the other way round, as `- old` and `+ new`."""
    old, new = (text.splitlines() for text in (read_recipe_text(root), recipe.dump_yaml()))
    lines = list(difflib.unified_diff(old, new, lineterm="", n=0))[2:] if old else []
    return [f"{line[0]} {line[1:]}" for line in lines if not line.startswith("@@")]


def read_manifest(root: Path) -> dict[str, Any]:
    """manifest.json of a run; since format 2 it has a seal. ValueError if it is damaged or not what the run wrote."""
    path = root / "manifest.json"
    found = read_json(path, Manifest, advice=MANIFEST_ADVICE)
    if found["format_version"] >= 2:
        read_json(path, sealed=True, advice=MANIFEST_ADVICE)
    return found


def read_recipe_text(root: Path) -> str:
    """recipe.yaml of a run; empty if it is missing or a link, which in a folder from elsewhere may point anywhere."""
    path = root / "recipe.yaml"
    if not path.is_file() or path.is_symlink():
        return ""
    return path.read_text(encoding="utf-8", errors="replace")


def check_recipe_text(root: Path, manifest: dict[str, Any]) -> None:
    """ValueError if recipe.yaml is not the file that the run wrote. It may be missing: no number depends on it."""
    path, written = root / "recipe.yaml", manifest.get("recipe")
    if written is not None and path.exists() and file_digest(path) != written:
        raise ValueError(f"{path}: not what the run wrote; the recipe's command writes a new one")


# What may have changed since the run began, the most specific first: the path in a planned stage or base evaluation,
# and its name in the message.
_TELLING = (
    (("model", "fingerprint"), "the base model's folder"),
    (("data",), "the training samples of {}"),
    (("evaluation", "data"), "the test samples of {}"),
    (("kl",), "the reference policy's folder"),
)


def check_same_work(root: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """ValueError if a stage or base evaluation that was planned before has another key now.

    The recipe is the same, but the data, the model or cpt itself has changed. Continuing would train finished stages
    again and show them beside numbers that were made from other inputs.

    Args:
        old, new: plan.json, and what it would become.
    """
    for part, identity in PLANNED.items():
        before = {tuple(item.get(key) for key in identity): item for item in old[part]}
        for item in new[part]:
            known = before.get(tuple(item.get(key) for key in identity), item)
            if known["key"] != item["key"] or _same_samples_otherwise(known, item):
                raise ValueError(
                    f"{root}: {_changed(known, item)} changed since this run was made; put back what there was, choose "
                    "another --out, or --fresh to delete the run and start again"
                )


def _same_samples_otherwise(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether as many test samples of a task as before are others: the recipe has not asked for that."""
    before, after = (item.get("evaluation") or {"samples": {}} for item in (old, new))
    same = [task for task, number in after["samples"].items() if before["samples"].get(task) == number]
    return any(before.get("data", {}).get(task) != after.get("data", {}).get(task) for task in same)


def check_whole_run(root: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """ValueError if some arms alone are to be measured otherwise than the rest was, or will be.

    Their matrices would have other test samples than those of the arms that stay, and the base model's row, which all
    share, could go with one of them only. Their drift would be a mean over other prompts.
    """
    asked = [item["evaluation"] for item in new["stages"] if "evaluation" in item][:1]
    planned = {item["arm"] for item in new["stages"]}
    rest = [item for item in old["stages"] if item["arm"] not in planned]
    evaluated = {item["arm"] for item in rest if item.get("evaluation") not in (None, *asked)}
    prompts = {task: number for item in new["stages"] for task, number in _drift_prompts(item).items()}
    moved = {item["arm"] for item in rest for task, n in _drift_prompts(item).items() if prompts.get(task, n) != n}
    for name, others in (("evaluation", evaluated if asked else set()), ("drift", moved)):
        if others:
            raise ValueError(
                f"{root}: the recipe's {name} is another than that of {', '.join(sorted(others))}; run the command "
                "without --arm, which measures all arms by the new one, or choose another --out"
            )


def _drift_prompts(item: Mapping[str, Any]) -> Mapping[str, int]:
    """Of a planned stage: task → prompts of it that drift is measured on; none where it is not."""
    found: Mapping[str, int] = (item.get("drift") or {}).get("samples", {})
    return found


def _changed(old: dict[str, Any], new: dict[str, Any]) -> str:
    for path, name in _TELLING:
        values: list[Any] = [old, new]
        for key in path:
            values = [value.get(key) if isinstance(value, dict) else None for value in values]
        if values[0] == values[1]:
            continue
        before, after = (value if isinstance(value, dict) else {} for value in values)
        tasks = [task for task in {**before, **after} if before.get(task) != after.get(task)]
        return name.format(", ".join(tasks))
    return "what the recipe reads, or cpt itself,"
