"""What a family of models can't do, said before anything starts; as of transformers 5.17 and vLLM 0.31.

Everything else is found by comparison: engines refuse a prompt that they would read otherwise than the trainer, and
`cpt.train.agreement` compares log-probabilities after a push.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from cpt.models.locate import hub_folder, read_config
from cpt.rollout.local import EngineName, choose_engine

if TYPE_CHECKING:
    from cpt.plan import RunPlan

_LOOKED_AT = 8  # samples of each task
_NEEDS = {"smolvlm": "num2words"}  # a package, of the processor
_NO_TEXT_ALONE = {"paligemma": "PaliGemma's processor takes no prompt without a picture"}
_ONE_PICTURE = {
    "llava_onevision": "vLLM gives each picture of a prompt the tokens that LLaVA-OneVision gives one that is alone",
}
_NO_PICTURE_ON_CPU = {
    "gemma3": "on a CPU vLLM lets a picture's tokens see only those before them, and Gemma 3 is made otherwise",
}
_NOT_BY_VLLM = {"paligemma": "vLLM lets a prompt's words see only those before them, and PaliGemma is made otherwise"}


def check_plan(plan: RunPlan, *, gpu: bool) -> None:
    """`check_family` of a run's model, on the first samples that are evaluated of each task.

    Args:
        gpu: whether there may be one for engines.
    """
    from cpt.tasks import get_task

    wanted = plan.recipe.resources.engine_gpus
    gpu = gpu if wanted == "auto" else wanted > 0
    engine = plan.recipe.rollout.engine
    kind = choose_engine(plan.model.path, float(gpu)) if engine == "auto" else engine
    asked = (plan.bases or plan.stages)[0].evaluation.samples
    samples = (one for name, n in asked.items() for one in get_task(name).samples("test", min(n, _LOOKED_AT)))
    check_family(plan.model.path, kind, gpu=gpu, pictures=((one.id, len(one.images)) for one in samples))


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
