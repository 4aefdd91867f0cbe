"""Make torchvision importable beside a CPU build of torch: `make setup` and `cpt doctor --repair`, nothing else.

torchvision's wheel on a CPU machine can be linked against CUDA. Its native library then fails to load, and importing
torchvision stops at "operator torchvision::nms does not exist", because it registers fake kernels for two operators
that the native library would have declared. transformers' Qwen2.5-VL processor needs torchvision (resizing in plain
torch), not these operators.

The repair declares the two operators if the native library is missing: a marked block at the end of
torchvision/extension.py in this interpreter's environment. It has to be there because vLLM imports torchvision in its
own subprocess before any code of ours runs. Calling either operator still raises an error.

vLLM's CPU build also requires torchaudio and torchcodec, whose wheels are linked against CUDA and can't be repaired in
this way: if they don't load, importing transformers fails, so they are uninstalled.

Run it with the environment's interpreter; running it again changes nothing. ``--undo`` removes the block.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

BESIDE = ("torchaudio", "torchcodec")
_PYTHON = (sys.executable, "-P")  # -P: import what is installed, not a file in the working folder
BEGIN = "# >>> cpt set-up: operators of the native library that could not be loaded"
END = "# <<< cpt set-up"
BLOCK = f"""
{BEGIN}
if not _has_ops():
    _cpt_library = torch.library.Library("torchvision", "FRAGMENT")
    for _cpt_operator in ("nms", "qnms"):
        _cpt_library.define(_cpt_operator + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
{END}
"""


def torchvision_folder() -> Path | None:
    """The folder of torchvision, found without importing it; None if it is not installed."""
    spec = importlib.util.find_spec("torchvision")
    return Path(spec.origin).parent if spec and spec.origin else None


def importable(name: str = "torchvision") -> tuple[bool, str]:
    """Whether a new interpreter can import a package, and the last line of its error if not."""
    # Not in this process: a failed import leaves a half registered library.
    result = subprocess.run([*_PYTHON, "-c", f"import {name}"], capture_output=True, text=True, check=False)
    lines = result.stderr.strip().splitlines()
    return result.returncode == 0, lines[-1] if lines else ""


def without_block(source: str) -> str:
    """`source` with our marked block, if any, removed."""
    before, found, rest = source.partition("\n" + BEGIN)
    return before + rest.partition(END + "\n")[2] if found else source


def write(path: Path, text: str) -> None:
    """Replace `path` by a new file, so that an installer's cache that is hard-linked to it is not changed."""
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(name, path.stat().st_mode)
    os.replace(name, path)


def repair(extension: Path) -> str:
    """Declare the missing operators in torchvision's `extension.py` if needed; returns what was done.

    Raises:
        RuntimeError: torchvision fails to import for another reason, or still does after the repair.
    """
    ok, complaint = importable()
    source = extension.read_text(encoding="utf-8")
    if ok:
        return "already repaired, nothing done" if BEGIN in source else "loads as installed, nothing done"
    if "torchvision::nms" not in complaint:
        raise RuntimeError(f"torchvision cannot be imported, for a reason this script does not know: {complaint}")
    write(extension, without_block(source) + BLOCK)
    ok, complaint = importable()
    if not ok:
        raise RuntimeError(f"torchvision still cannot be imported after the repair: {complaint}")
    return f"its native library does not fit this torch; declared nms and qnms in {extension}"


def remove_what_cannot_load() -> list[str]:
    """Uninstall torchaudio and torchcodec if they are installed but don't load; returns the names of those removed.

    Raises:
        RuntimeError: pip could not remove one.
    """
    there = [name for name in BESIDE if importlib.util.find_spec(name) is not None]
    broken = [name for name in there if not importable(name)[0]]
    for name in broken:
        command = [*_PYTHON, "-m", "pip", "uninstall", "--quiet", "--yes", name]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            reason = (result.stderr.strip().splitlines() or ["pip did not say why"])[-1]
            raise RuntimeError(f"{name} does not load beside this torch and can't be uninstalled: {reason}")
    return broken


def run() -> int:
    """Repair this interpreter's environment and print what is done; exit code 1 with one line if that fails."""
    try:
        for name in remove_what_cannot_load():
            print(f"{name}: does not load beside this torch, uninstalled")
        folder = torchvision_folder()
        if folder is None:
            print("torchvision: not installed, nothing done")
        else:
            print(f"torchvision: {repair(folder / 'extension.py')}")
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def main() -> int:
    """Repair (or with ``--undo`` restore) the torchvision of the interpreter that runs this."""
    parser = argparse.ArgumentParser(description="Make torchvision importable beside a CPU build of torch.")
    parser.add_argument("--undo", action="store_true", help="remove the repair")
    if not parser.parse_args().undo:
        return run()
    folder = torchvision_folder()
    if folder is None:
        print("torchvision: not installed, nothing done")
        return 0
    extension = folder / "extension.py"
    source = extension.read_text(encoding="utf-8")
    write(extension, without_block(source))
    print("torchvision: repair removed" if BEGIN in source else "torchvision: was not repaired, nothing done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
