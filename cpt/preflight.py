"""Everything that can be found wrong with a run before a process starts: model, engine, disk, output folder."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from urllib.request import Request, urlopen

from cpt.disk import check_room
from cpt.models.image_text import check_image_text
from cpt.models.locate import check_model_folder, hub_folder, locate_model, read_config
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
    available_model(recipe.model.name_or_path)
    plan = make_plan(recipe)
    if recipe.rollout.engine == "vllm":
        _check_package("vllm")
    if any(isinstance(spec.tuning, LoRA) for spec in expand_arms(recipe).values()):
        _check_package("peft")
    check_room(plan, out)
    _check_writable(out)


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


def _check_package(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        raise ValueError(f"the package {name} is not installed; {_PACKAGES[name]}")


def _fetch_config(name: str) -> None:
    """Asks once before it downloads: a download alone would try for half a minute."""
    from huggingface_hub import constants, get_token, hf_hub_download, hf_hub_url

    reason = "offline mode is on (HF_HUB_OFFLINE)"
    if not constants.HF_HUB_OFFLINE:
        token = get_token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = Request(hf_hub_url(name, "config.json"), headers=headers, method="HEAD")
        try:
            urlopen(request, timeout=10).close()
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
        raise ValueError(f"{out}: can't be written ({error.strerror}); choose another --out") from error
