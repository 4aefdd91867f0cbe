"""Everything that can be found wrong with a run before a process starts: model, engine, disk, output folder."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from urllib.request import Request, urlopen

from cpt.disk import check_room
from cpt.plan import make_plan
from cpt.recipe import LoRA, Recipe, expand_arms

_PACKAGES = {
    "vllm": "rollout.engine: vllm needs it; install it, or set rollout.engine: hf",
    "peft": "LoRA needs it; install it",
}


def preflight(recipe: Recipe, out: Path) -> None:
    """Checks what a valid recipe needs of this machine. Creates `out`, nothing else.

    Raises:
        ValueError: if the model is missing or damaged, a package is missing, the disk is too small or `out` can't be
        written.
    """
    plan = make_plan(recipe)
    if plan.model.nbytes is None:
        _check_hub_model(plan.model.path)
    if recipe.rollout.engine == "vllm":
        _check_package("vllm")
    if any(isinstance(spec.tuning, LoRA) for spec in expand_arms(recipe).values()):
        _check_package("peft")
    check_room(plan, out)
    _check_writable(out)


def _check_package(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        raise ValueError(f"the package {name} is not installed; {_PACKAGES[name]}")


def _check_hub_model(name: str) -> None:
    """Asks once, and only for a model that is not in the cache; a download would try for half a minute."""
    from huggingface_hub import constants, get_token, hf_hub_url, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(name, "config.json"), str):
        return
    reason = "offline mode is on (HF_HUB_OFFLINE)"
    if not constants.HF_HUB_OFFLINE:
        token = get_token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = Request(hf_hub_url(name, "config.json"), headers=headers, method="HEAD")
        try:
            urlopen(request, timeout=10).close()
            return
        except OSError as error:  # no such model, no access, no network
            reason = str(error).strip("<>")
    raise ValueError(f"model {name!r} is no local folder and can't be had from the Hugging Face Hub: {reason}")


def _check_writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        raise ValueError(f"{out}: can't be written ({error.strerror}); choose another --out") from error
