"""What a family of models can't do, said before anything starts; as of transformers 5.17 and vLLM 0.31.

Everything else is found by comparison: engines refuse a prompt that they would read otherwise than the trainer, and
`cpt.rollout.agreement` compares log-probabilities after a push.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cpt.models.locate import hub_folder, read_config
from cpt.rollout.local import EngineName, choose_engine

if TYPE_CHECKING:
    from cpt.recipe.schema import Resources, Rollout

_NEEDS = {"smolvlm": "num2words"}  # a package, of the processor
_NO_TEXT_ALONE = {"paligemma": "PaliGemma's processor takes no prompt without a picture"}
_ONE_PICTURE = {
    "llava_onevision": "vLLM gives each picture of a prompt the tokens that LLaVA-OneVision gives one that is alone",
}
_NO_PICTURE_ON_CPU = {
    "gemma3": "on a CPU vLLM lets a picture's tokens see only those before them, and Gemma 3 is made otherwise",
}
_NOT_BY_VLLM = {"paligemma": "vLLM lets a prompt's words see only those before them, and PaliGemma is made otherwise"}


@dataclass(frozen=True)
class EngineKind:
    """What a family's limits ask of the engines.

    Attributes:
        gpu: whether they have one.
    """

    name: EngineName
    gpu: bool


def engine_kind(model_path: str, rollout: Rollout, resources: Resources, *, gpu: bool) -> EngineKind:
    """The engines that a recipe will get.

    Args:
        gpu: whether there may be one for them.
    """
    gpu = gpu if resources.engine_gpus == "auto" else resources.engine_gpus > 0
    name = choose_engine(model_path, float(gpu)) if rollout.engine == "auto" else rollout.engine
    return EngineKind(name, gpu)


def check_family(model_path: str, engine: EngineName, *, gpu: bool, pictures: Iterable[tuple[str, int]]) -> None:
    """Whether a model can be asked these prompts by this kind of engine.

    Args:
        model_path: Hugging Face folder or Hub id.
        gpu: whether engines have a GPU.
        pictures: id and number of pictures of samples.

    Raises:
        ValueError: it can't; the message says why, names a sample and says what to change.
    """
    folder = Path(model_path) if Path(model_path).is_dir() else hub_folder(model_path)
    if folder is None:
        return  # not here yet: nothing is known
    kind = str(read_config(folder).get("model_type"))
    package = _NEEDS.get(kind)
    if package is not None and importlib.util.find_spec(package) is None:
        raise ValueError(f"{model_path}: the processor of {kind} needs the package {package}; install it")
    for sample, count in pictures:
        if not count and kind in _NO_TEXT_ALONE:
            raise ValueError(f"sample {sample} has no picture: {_NO_TEXT_ALONE[kind]}; leave its task out")
        if engine != "vllm":
            continue
        reason = _ONE_PICTURE.get(kind) if count > 1 else None
        reason = _NO_PICTURE_ON_CPU.get(kind, reason) if count and not gpu else reason
        reason = _NOT_BY_VLLM.get(kind, reason)
        if reason:
            raise ValueError(f"sample {sample} has {count} pictures: {reason}; set rollout.engine: hf")
