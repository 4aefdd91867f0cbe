"""Threads and waiting policy of trainer and engine processes.

On a CPU a trainer and its engines take turns, so each may use all cores, if those who wait really wait: OpenMP's
threads spin at every barrier for milliseconds by default, and a spinning thread keeps the other process's thread from
the core that its own barrier is waiting for.
"""

from __future__ import annotations

import os

_MOST_THREADS = 16  # a model that is trained on a CPU has no work for more

_QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_VLLM = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the actor is the engine's process
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}
_VLLM_ON_CPU = {
    "VLLM_CPU_SGL_KERNEL": "0",
    # vLLM compiles its log-probability ranks at the first completion: a C++ compiler needed, and most of a minute.
    "TORCHDYNAMO_DISABLE": "1",
}


def engine_env(kind: str = "vllm", *, gpu: bool = False, engines: int = 1) -> dict[str, str]:
    """Environment of an engine's process.

    Args:
        kind: of engine, vllm or hf.
        gpu: whether it runs on a GPU; then threads are left to Ray.
        engines: how many share this machine's cores.
    """
    env = dict(_QUIET)
    if kind == "vllm":
        env |= _VLLM | ({} if gpu else _VLLM_ON_CPU)
    return env if gpu else env | _threads(engines)


def trainer_env(*, gpu: bool = False) -> dict[str, str]:
    """Environment of a training process."""
    return dict(_QUIET) if gpu else _QUIET | _threads(1)


def _threads(processes: int) -> dict[str, str]:
    count = max(1, min(_MOST_THREADS, usable_cores() // processes))
    return {"OMP_NUM_THREADS": str(count), "MKL_NUM_THREADS": str(count), "OMP_WAIT_POLICY": "PASSIVE"}


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
