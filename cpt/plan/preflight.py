"""Everything that can be found wrong with a run before a process starts: model, engine, disk, output folder."""

from __future__ import annotations

import importlib.util
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from cpt.common.keys import KeyPath, Problem
from cpt.models.attention import PACKAGES, check_attention
from cpt.models.image_text import check_image_text
from cpt.models.locate import (
    Tensor,
    check_model_folder,
    checkpoint_tensors,
    hub_folder,
    locate_model,
    read_config,
    stated_length,
)
from cpt.models.tuning.parts import in_part, lacking
from cpt.plan.disk import check_room, size
from cpt.plan.make import make_plan
from cpt.plan.run_plan import RunPlan
from cpt.recipe import Recipe, RecipeError, expand_arms

_SAMPLE_BYTES = 20_000  # of a sample of the built-in world, with its prompt; those of others are larger


def preflight(recipe: Recipe, out: Path, address: str | None = None) -> None:
    """Checks what a valid recipe needs of the model and of this machine. Creates `out`, nothing else.

    Args:
        address: of the Ray cluster that the run will use, whose processors are not counted here.

    Raises:
        ValueError: if the model is missing, damaged or too small for the recipe, a package is missing, the machine or
            the disk is too small, or `out` can't be written.
    """
    with recipe.told_at("model", "name_or_path"):
        available_model(recipe.model.name_or_path)
    plan = make_plan(recipe)
    check_fit(plan)
    check_machine(plan, address)
    check_room(plan, out)
    _check_writable(out)


def check_fit(plan: RunPlan) -> None:
    """ValueError if the recipe asks the model for what it has not. Of a model on the Hub nothing is known yet."""
    problems = list(dict.fromkeys(_in_model(plan)))
    if problems:
        raise RecipeError([plan.recipe.problem(*problem) for problem in problems])


def _in_model(plan: RunPlan) -> Iterator[Problem]:
    folder = Path(plan.model.path)
    if plan.model.nbytes is None:
        return
    yield from _in_trained(plan, checkpoint_tensors(folder))
    yield from _in_lengths(plan, folder)


def _in_trained(plan: RunPlan, tensors: Mapping[str, Tensor]) -> Iterator[Problem]:
    """What an arm freezes, and then what it trains of the rest."""
    for stages in plan.by_arm.values():
        family, tuning, freeze = stages[0].family, stages[0].tuning, stages[0].freeze
        missing = lacking(tensors.keys(), freeze)
        for part in missing:
            at = (*_model_key(plan.recipe, family, "freeze"), freeze.index(part))
            yield at, f"the model has no {part}; leave it out"
        rest = {name: one for name, one in tensors.items() if not any(in_part(name, part) for part in freeze)}
        if not rest:
            yield _model_key(plan.recipe, family, "freeze"), "leaves nothing to train; freeze less"
            continue
        beside = f", beside the frozen {' and '.join(freeze)}" if len(rest) < len(tensors) else ""
        for below, message in tuning.model_problems(rest):
            yield (*_model_key(plan.recipe, family, "tuning"), *below), message + beside


def _model_key(recipe: Recipe, family: str, name: str) -> KeyPath:
    """Where an arm's `tuning` or `freeze` is written: with the arm, or with the model."""
    return (*(("arms", family) if getattr(recipe.arms[family], name) is not None else ("model",)), name)


def _in_lengths(plan: RunPlan, folder: Path) -> Iterator[Problem]:
    """A completion has to leave room for a prompt."""
    own = stated_length(folder)
    asked = plan.recipe.rollout.max_model_len
    if own is not None and asked is not None and asked > own:
        yield ("rollout", "max_model_len"), f"{asked} tokens are more than the model has, {own}; set {own}, or null"
        return
    limit, whose = (asked, "rollout.max_model_len") if asked is not None else (own, "the model's limit")
    if limit is None:
        return
    told = f"leave no room for a prompt: {whose} is {limit} tokens for both; set fewer"
    if plan.stages and plan.stages[0].evaluation.max_tokens >= limit:
        yield ("evaluation", "max_tokens"), f"{plan.stages[0].evaluation.max_tokens} tokens {told}"
    for stages in plan.by_arm.values():
        tokens = stages[0].max_completion_length
        if tokens is not None and tokens >= limit:
            yield ("arms", stages[0].family, "method", "max_completion_length"), f"{tokens} tokens {told}"


def check_machine(plan: RunPlan, address: str | None = None) -> None:
    """ValueError if a package or an implementation is missing, or this machine too small for the plan.

    Its disk is another matter.

    Args:
        address: see `preflight`.
    """
    problems = list(machine_problems(plan, address))
    if problems:
        raise RecipeError([plan.recipe.problem(*problem) for problem in problems])
    model = plan.model
    if model.attention != "auto":  # takes transformers' seconds: not asked by `cpt plan`
        with plan.recipe.told_at("model", "attention"):
            check_attention(model.path, model.attention, trust_remote_code=model.trust_remote_code)


def machine_problems(plan: RunPlan, address: str | None = None) -> Iterator[Problem]:
    """Why this machine can't run the plan, its disk aside: key and what to change.

    Args:
        address: see `preflight`.
    """
    recipe = plan.recipe
    if recipe.rollout.engine == "vllm" and importlib.util.find_spec("vllm") is None:
        yield ("rollout", "engine"), "the package vllm is not installed; install it, or set rollout.engine: hf"
    specs = expand_arms(recipe).values()
    needed = [
        (_model_key(recipe, one.family, "tuning"), one.tuning.type, name)
        for one in specs
        for name in one.tuning.packages
    ]
    for at, tuning, package in dict.fromkeys(needed):
        if importlib.util.find_spec(package) is None:
            yield at, f"the package {package} is not installed, and {tuning} needs it; install it"
    yield from _in_attention(plan, address)
    if address is None:
        yield from _in_processors(recipe)
        yield from _in_memory(plan)


def _in_attention(plan: RunPlan, address: str | None) -> Iterator[Problem]:
    """Flash attention has needs of its own; the GPUs of a cluster elsewhere are not looked at."""
    name, recipe = plan.model.attention, plan.recipe
    if name not in PACKAGES:
        return
    resources = recipe.resources
    trainer, engine = gpu_shares(gpu_count(), recipe.rollout.engines, resources.trainer_gpus, resources.engine_gpus)
    told = None
    if address is None and not (trainer and (engine or recipe.rollout.engine == "vllm")):
        told = f"{name} computes on GPUs alone, and here training or the engines have none; set auto, or sdpa"
    elif importlib.util.find_spec(PACKAGES[name]) is None:
        told = f"the package {PACKAGES[name]} is not installed, and {name} needs it; install it, or set auto"
    elif plan.model.dtype == "float32":
        told = f"{name} does not compute in float32; set model.dtype: bfloat16, or auto here"
    if told is not None:
        yield ("model", "attention"), told


def _in_processors(recipe: Recipe) -> Iterator[Problem]:
    """Ray would wait for what is not there."""
    engines, cpus, gpus = recipe.rollout.engines, local_cpus(), gpu_count()
    if engines > cpus:
        yield ("rollout", "engines"), f"{engines} engines need a CPU core each, and this machine has {cpus}; set fewer"
    trainer, engine = gpu_shares(gpus, engines, recipe.resources.trainer_gpus, recipe.resources.engine_gpus)
    if trainer + engines * engine > gpus + 1e-9:
        path = ("rollout", "engines") if recipe.resources.engine_gpus == "auto" else ("resources", "engine_gpus")
        path = ("resources", "trainer_gpus") if trainer > gpus else path
        asked = f"{trainer:g} GPU for training and {engine:g} for each of {engines} engines"
        yield path, f"{asked} are more than this machine has, {gpus}; set less, or auto"


def gpu_shares(
    gpus: float, engines: int, trainer: float | str = "auto", engine: float | str = "auto"
) -> tuple[float, float]:
    """GPUs for training and for each engine; `auto` is one each, or the halves of a single one, or none."""
    automatic = 1.0 if gpus >= 1 + engines else 0.5 if gpus else 0.0
    return (
        automatic if isinstance(trainer, str) else trainer,
        automatic if isinstance(engine, str) else engine,
    )


def local_cpus() -> int:
    """Logical CPUs of a Ray of our own on this machine: three at least, however few there are.

    A trainer, the next one, which imports already, and an engine must fit, though they take turns.
    """
    return max(3, os.cpu_count() or 1)


def gpu_count() -> int:
    """GPUs that processes of this one would see, without asking a driver."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    there = [path for path in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia[0-9]+", path.name)]
    if visible is None:
        return len(there)
    return min(len(there), len([one for one in visible.split(",") if one.strip() not in ("", "-1")]))


def _in_memory(plan: RunPlan) -> Iterator[Problem]:
    """Samples are held in memory while they are trained on, or asked."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    trained = max((stage.data_samples for stage in plan.stages), default=0)
    asked = sum(plan.stages[0].evaluation.samples.values()) if plan.stages else 0
    for path, samples in ((("data", "samples"), trained), (("evaluation", "samples"), asked)):
        if samples * _SAMPLE_BYTES > memory:
            yield (
                path,
                f"{samples} samples at once take about {size(samples * _SAMPLE_BYTES)}, and this machine has "
                f"{size(memory)} of memory; set fewer",
            )


def available_model(name: str) -> Path | str:
    """What `locate_model` finds: a whole folder, or an id on the Hub, whose config.json is then in the Hub's cache.

    A plan that is made afterwards knows the model's dtype.

    Raises:
        ValueError: the folder is missing or damaged, the Hub does not give the model, or it reads no pictures.
    """
    found = locate_model(name)
    if isinstance(found, Path):
        check_model_folder(found)
    else:
        if hub_folder(found) is None:
            _fetch_config(found)
        cached = hub_folder(found)
        assert cached is not None, f"{found}: no config.json in the Hub's cache after it was fetched"
        check_image_text(read_config(cached), found)
    return found


class _KeepToken(HTTPRedirectHandler):
    """Follows redirects as usual, but keeps the user's token from every other server than the one it is for.

    On the same server it goes along: the Hub redirects from a model's old name, and a private one needs it there too.
    """

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None and urlsplit(newurl)[:2] != urlsplit(req.full_url)[:2]:  # scheme, host and port
            following.remove_header("Authorization")
        return following


def _fetch_config(name: str) -> None:
    """Asks once before it downloads: a download alone would try for half a minute."""
    from huggingface_hub import constants, get_token, hf_hub_download, hf_hub_url

    reason = "offline mode is on (HF_HUB_OFFLINE)"
    if not constants.HF_HUB_OFFLINE:
        token = get_token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = Request(hf_hub_url(name, "config.json"), headers=headers, method="HEAD")
        try:
            build_opener(_KeepToken).open(request, timeout=10).close()
            hf_hub_download(name, "config.json")
            return
        except OSError as error:  # no such model, no access, no network
            reason = str(error).strip("<>").partition("\n")[0]
    raise ValueError(f"model {name!r} is no local folder and can't be had from the Hugging Face Hub: {reason}")


def _check_writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        raise ValueError(f"--out: {out}: can't be written ({error.strerror}); choose another") from error
