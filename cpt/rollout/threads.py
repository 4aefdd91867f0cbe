"""Environment of trainer and engine processes."""

from __future__ import annotations


def engine_env(engine: str = "vllm", *, gpu: bool = False) -> dict[str, str]:
    """Variables of an engine's process; set before it imports anything."""
    return {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "2",
        "VLLM_CPU_SGL_KERNEL": "0",
        "TORCHDYNAMO_DISABLE": "1",
    }


def trainer_env() -> dict[str, str]:
    """Variables of a trainer's process; set before it imports anything."""
    return {"OMP_NUM_THREADS": "2"}
