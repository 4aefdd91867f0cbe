"""Weights on their way from a trainer to the engines: put once into Ray's object store, read without a copy.

A push is versioned, and fingerprinted at both ends. vLLM takes the tensors through its own weight-transfer interface
(start, update, finish), for which `register_vllm_backend` adds the object store as a backend; the same three calls take
vLLM's `nccl` and `ipc` backends, the faster way between GPUs.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open

if TYPE_CHECKING:
    import numpy as np
    import torch

    Packed = Mapping[str, tuple[str, np.ndarray]]
    """Name → (dtype's name, values). bfloat16, which numpy lacks, travels as uint16."""

BACKEND = "cpt_object_store"
_EDGE_BYTES = 4096


def pack(named_tensors: Iterable[tuple[str, torch.Tensor]], dtype: str | None = None) -> Packed:
    """Copies of all tensors as arrays that travel through Ray's object store.

    Copies, because some iterators (PEFT's merged weights) take back what they have yielded.

    Args:
        dtype: cast floating-point tensors to this one, as the engine computes in it anyway; None keeps theirs.
    """
    import torch

    target = None if dtype is None else getattr(torch, dtype)
    packed = {}
    for name, tensor in named_tensors:
        cast = target if target is not None and tensor.is_floating_point() else tensor.dtype
        value = tensor.detach().to("cpu", cast, copy=True).contiguous()
        array = value.view(torch.uint16) if value.dtype == torch.bfloat16 else value
        packed[name] = (str(value.dtype).removeprefix("torch."), array.numpy())
    return packed


def unpack(packed: Packed) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of `pack`, without a copy: read only where they lie in the object store."""
    import torch

    for name, (dtype, array) in packed.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # not writable: nobody writes to them
            tensor = torch.from_numpy(array)
        yield name, tensor.view(torch.bfloat16) if dtype == "bfloat16" else tensor


def read_folder(folder: str | Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and tensor of every weight in a folder's safetensors files, under the names the checkpoint has.

    Raises:
        ValueError: the folder holds none.
    """
    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        raise ValueError(f"{folder} holds no *.safetensors files")
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a mapping
                yield name, tensors.get_tensor(name)


def fingerprint(packed: Packed) -> str:
    """16 hexadecimal digits of names, dtypes, shapes, and the first and last 4 KiB of every tensor.

    Quick on any size of model, and changed by any optimizer step and by any tensor that went missing or astray.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name in sorted(packed):
        dtype, array = packed[name]
        raw = array.reshape(-1).view("uint8")
        digest.update(f"{name}|{dtype}|{array.shape}|".encode())
        digest.update(raw[:_EDGE_BYTES].data)
        digest.update(raw[-_EDGE_BYTES:].data)
    return digest.hexdigest()


def check_fingerprint(packed: Packed, expected: str) -> None:
    """Whether weights arrived as they were sent. ValueError if not."""
    found = fingerprint(packed)
    if found != expected:
        raise ValueError(f"the weights that arrived have fingerprint {found}, those that were sent {expected}")


def register_vllm_backend() -> None:
    """Teach vLLM, in this process, to take weights that are handed over as arrays. Idempotent."""
    from vllm.distributed.weight_transfer import WeightTransferEngine, WeightTransferEngineFactory
    from vllm.distributed.weight_transfer.base import WeightTransferInitInfo, WeightTransferUpdateInfo
    from vllm.model_executor.model_loader import reload

    if BACKEND in WeightTransferEngineFactory._registry:
        return

    @dataclass
    class Nothing(WeightTransferInitInfo):
        """There is no connection to set up."""

    @dataclass
    class Arrays(WeightTransferUpdateInfo):
        """All weights of the model."""

        weights: Any

    class ObjectStoreEngine(WeightTransferEngine[Nothing, Arrays]):
        """Loads arrays layer by layer, as vLLM's reloading does."""

        init_info_cls, update_info_cls = Nothing, Arrays

        def init_transfer_engine(self, init_info: Nothing) -> None:
            """Nothing to do."""

        def start_weight_update(self) -> None:
            """Undo what vLLM did to its weights after loading."""
            reload.initialize_layerwise_reload(self.model)

        def receive_weights(self, update_info: Arrays) -> None:
            """Load all weights. ValueError if the model has more."""
            expected = {name for name, _ in self.model.named_parameters()}
            if _is_tied(self.model_config.hf_config):  # the head is the embedding, though not while it is reloaded
                expected = {name for name in expected if not name.endswith("lm_head.weight")}
            loaded = self.model.load_weights(unpack(update_info.weights))
            missing = sorted(expected - set(loaded)) if loaded else []
            if missing:
                raise ValueError(f"the push lacks {len(missing)} weights of the engine, the first is {missing[0]}")

        def finish_weight_update(self) -> None:
            """Repack the weights for the kernels again."""
            reload.finalize_layerwise_reload(self.model, self.model_config)
            _repack_tied_head(self.model)

        def shutdown(self) -> None:
            """Nothing to do."""

    WeightTransferEngineFactory.register_engine(BACKEND, ObjectStoreEngine)


def _is_tied(config: Any) -> bool:
    """Whether a model's output layer shares the weights of its embedding."""
    return bool(config.tie_word_embeddings or config.get_text_config().tie_word_embeddings)


def _repack_tied_head(model: torch.nn.Module) -> None:
    """On a CPU vLLM multiplies by a repacked copy of `lm_head`.

    A head that is tied to the embedding is not among the weights that are loaded, so vLLM's reloading does not repack
    it.
    """
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    for module in model.modules():
        if isinstance(module, ParallelLMHead) and getattr(module, "cpu_linear", None) is not None:
            module.quant_method.process_weights_after_loading(module)
