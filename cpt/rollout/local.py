"""Engines in this process: how they are built, chosen, and used without Ray."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cpt.models.load import resolve_model
from cpt.models.locate import checkpoint_tensors
from cpt.rollout.engine import Engine, EngineSettings
from cpt.rollout.engine_vllm import VLLMEngine
from cpt.rollout.sync import fingerprint, pack, read_folder
from cpt.types import Completion, GenerationRequest, SamplingParams, ScoringRequest

if TYPE_CHECKING:
    import torch

EngineName = Literal["vllm", "hf"]

_SMALL_FOR_A_CPU = 3_000_000  # parameters; see `choose_engine`


def build_engine(kind: EngineName, settings: EngineSettings) -> Engine:
    """An engine in this process."""
    if kind == "vllm":
        return VLLMEngine(settings)
    from cpt.rollout.engine_hf import HFEngine

    return HFEngine(settings)


def choose_engine(model_path: str, gpus: float) -> EngineName:
    """The faster engine for a model on the hardware at hand; a rule, so that a run that goes on chooses the same again.

    On a GPU it is vLLM. On a CPU vLLM pays for every token of every sequence in Python, which a very small model does
    not earn back. Tokens per second of CPU time in float32, one thread, 128 completions of up to 32 tokens, one picture
    per prompt, prompts shared by eight (107 M: 32 completions of 16):

        parameters               1.5 M   3.5 M    18 M   107 M
        hf, the built-in model   9,400
        hf                       5,000   2,400     790     118
        vllm                     3,500   3,000     930     157

    Args:
        model_path: Hugging Face folder or Hub id.
        gpus: that each engine has.
    """
    if find_spec("vllm") is None:
        return "hf"
    if gpus or not Path(model_path).is_dir():
        return "vllm"
    parameters = sum(prod(tensor.shape) for tensor in checkpoint_tensors(Path(model_path)).values())
    return "hf" if parameters < _SMALL_FOR_A_CPU else "vllm"


def local_folder(name: str | Path) -> Path:
    """The folder of a model on this machine; a Hub id is looked up in, or fetched into, the Hub's cache."""
    source = resolve_model(name)
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(source, allow_patterns=["*.safetensors", "*.json"]))


@dataclass
class LocalPool:
    """The same methods with one engine in this process: for tests, and where Ray is too much."""

    local: Engine
    engine: EngineName = "hf"

    @property
    def settings(self) -> EngineSettings:
        """How the engine was built."""
        return self.local.settings

    def push(self, named_tensors: Iterable[tuple[str, torch.Tensor]], version: str) -> float:
        """See `RolloutPool.push`."""
        packed = pack(named_tensors, self.settings.dtype)
        return self.local.load(packed, version, fingerprint(packed))

    def push_folder(self, folder: str | Path, version: str) -> str:
        """See `RolloutPool.push_folder`."""
        self.push(read_folder(local_folder(folder)), version)
        return version

    def generate(
        self, requests: Sequence[GenerationRequest], params: SamplingParams, *, version: str
    ) -> list[list[Completion]]:
        """See `RolloutPool.generate`."""
        return self.local.generate(requests, params, version)

    def loglikelihood(self, requests: Sequence[ScoringRequest], *, version: str) -> list[list[float]]:
        """See `RolloutPool.loglikelihood`."""
        return self.local.loglikelihood(requests, version)

    def close(self) -> None:
        """Nothing to end."""
