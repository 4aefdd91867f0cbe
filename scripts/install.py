"""Create .venv and install cpt in it, in the exact versions of requirements/lock-{cpu,gpu}.txt (`make setup`).

Needs Python and pip, nothing else. Running it again does nothing until the locks, pyproject.toml, these scripts or the
choice of accelerator change. Where wheels come from is pip's own configuration (index, find-links, cache), as always.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "cpt-setup.txt"
REPAIR = ROOT / "cpt" / "cli" / "torchvision_repair.py"

# Errors only, as pip warns of every package that one of several indexes lacks. pip would compile on one core; see
# `compile_packages`.
INSTALL = ("install", "--quiet", "--quiet", "--no-compile")


def say(text: str) -> None:
    """Print a line about what set-up is doing."""
    print(f"setup: {text}", flush=True)


def run(*command: str | Path) -> None:
    """Run a command, its output shown; CalledProcessError when it fails."""
    subprocess.run([str(part) for part in command], check=True, cwd=ROOT)


def works(*command: str | Path) -> bool:
    """Whether a command can be run and succeeds; its output is not shown."""
    try:
        return subprocess.run([str(part) for part in command], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def detected_accelerator() -> str:
    """`gpu` if the NVIDIA driver lists a device, else `cpu`."""
    if shutil.which("nvidia-smi") is None:
        return "cpu"
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return "gpu" if listing.returncode == 0 and "GPU" in listing.stdout else "cpu"


def lock_of(accelerator: str) -> Path:
    """The lock file of an accelerator."""
    return ROOT / "requirements" / f"lock-{accelerator}.txt"


def fingerprint(accelerator: str) -> str:
    """Hash of all that decides what is installed."""
    digest = hashlib.blake2b(f"{accelerator} {ROOT}".encode(), digest_size=16)
    scripts = ROOT / "scripts"
    inputs = (lock_of(accelerator), ROOT / "pyproject.toml", scripts / "install.py", REPAIR)
    for path in inputs:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def ensure_venv() -> None:
    """Make sure that .venv holds an interpreter with pip; keeps one that does."""
    if works(PYTHON, "-m", "pip", "--version"):
        say(f"using {VENV}")
        return
    say(f"creating {VENV} with {sys.executable}")
    if importlib.util.find_spec("ensurepip") is not None:
        run(sys.executable, "-m", "venv", "--clear", VENV)
        return
    # Some distributions package ensurepip apart; the pip outside can then install one inside.
    run(sys.executable, "-m", "venv", "--clear", "--without-pip", VENV)
    run(sys.executable, "-m", "pip", "--python", PYTHON, *INSTALL, "pip")


def install_cpu() -> None:
    """Install the CPU set, and make torch and torchvision load."""
    pip = (PYTHON, "-m", "pip")
    run(*pip, *INSTALL, "--no-deps", "-r", lock_of("cpu"))
    if not works(PYTHON, "-c", "import torch"):
        pin = next(line for line in lock_of("cpu").read_text("utf-8").splitlines() if line.startswith("torch=="))
        say("pip found a torch that is built for CUDA, and it does not load without CUDA's libraries: installing these")
        say("  (several GB; a pip index that has CPU builds of torch avoids it)")
        run(*pip, *INSTALL, pin)


def install_gpu() -> None:
    """Install the CUDA set. Its lock lists every package, so pip has nothing to choose, only to check."""
    run(PYTHON, "-m", "pip", *INSTALL, "-r", lock_of("gpu"))


def compile_packages() -> None:
    """Compile what is installed, on all cores, but for the packages' own tests.

    Python would do that when it imports, but where PYTHONDONTWRITEBYTECODE is set, as in many containers, every process
    of every run would do it again: tests take half as long again without this.
    """
    packages = next(VENV.glob("lib/python3*/site-packages")).relative_to(ROOT)
    # Its exit code is 1 when a file can't be compiled, and some are for other versions of Python.
    command = (PYTHON, "-m", "compileall", "-qq", "-j", "0", "-x", "/tests/", packages)
    subprocess.run([str(part) for part in command], check=False, cwd=ROOT)


def install(accelerator: str) -> None:
    """Install everything for `accelerator`, cpt itself in editable mode.

    Raises:
        subprocess.CalledProcessError: a step failed; its messages have been shown.
    """
    started = time.monotonic()
    ensure_venv()
    say(f"installing {lock_of(accelerator).relative_to(ROOT)} (a few minutes when nothing is cached)")
    install_gpu() if accelerator == "gpu" else install_cpu()
    say("installing cpt, editable")
    # setuptools warns at length that an editable install reads this folder, which is what we want of it.
    os.environ["PYTHONWARNINGS"] = "ignore"
    run(PYTHON, "-m", "pip", *INSTALL, "--no-deps", "--no-build-isolation", "--editable", ".")
    run(PYTHON, "-m", "cpt.cli.torchvision_repair")  # by its path, its folder's types.py would stand for Python's own
    say("compiling what was installed")
    compile_packages()
    STAMP.write_text(fingerprint(accelerator) + "\n", encoding="utf-8")
    say(f"done in {time.monotonic() - started:.0f} s; `{VENV.name}/bin/cpt doctor` shows what works")


def main() -> int:
    """Install for the accelerator asked for or found; exit code 1 when a step fails."""
    parser = argparse.ArgumentParser(description="Create .venv and install cpt in it.")
    parser.add_argument("--accelerator", choices=["auto", "cpu", "gpu"], default="auto")
    choice = parser.parse_args().accelerator
    accelerator = detected_accelerator() if choice == "auto" else choice
    if STAMP.exists() and STAMP.read_text(encoding="utf-8").strip() == fingerprint(accelerator) and works(PYTHON, "-V"):
        return 0
    say(f"for {'CUDA' if accelerator == 'gpu' else 'CPU'}, {'asked for' if choice != 'auto' else 'as found'}")
    try:
        install(accelerator)
    except subprocess.CalledProcessError as error:
        print(f"setup: failed at: {' '.join(map(str, error.cmd))}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
