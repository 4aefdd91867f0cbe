"""Set-up: the locks fit the stated dependencies, and torchvision is repaired only where it needs it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cpt.cli.doctor import read_lock
from cpt.cli.torchvision_repair import remove_what_cannot_load

ROOT = Path(__file__).resolve().parents[2]

# Stand-ins with the shape of the real packages: an operator must be declared before a fake kernel can be registered.
TORCH = """
class library:
    declared = set()
    class Library:
        def __init__(self, namespace, kind): self.namespace = namespace
        def define(self, schema): library.declared.add(self.namespace + "::" + schema.partition("(")[0])
    @staticmethod
    def register_fake(name):
        if name not in library.declared: raise RuntimeError("operator " + name + " does not exist")
"""
EXTENSION = "import torch\n\ndef _has_ops():\n    return {loads}\n"
REGISTRATIONS = """
import torch
from torchvision import extension
if extension._has_ops(): torch.library.declared |= {"torchvision::nms", "torchvision::qnms"}
torch.library.register_fake("torchvision::nms")
torch.library.register_fake("torchvision::qnms")
"""


def script(name: str) -> ModuleType:
    """A module of scripts/, which is not a package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fake_torchvision(folder: Path, loads: bool, extension: str = EXTENSION) -> Path:
    """A torchvision whose native library loads or not; its extension.py."""
    package = folder / "torchvision"
    package.mkdir()
    (folder / "torch.py").write_text(TORCH)
    (package / "__init__.py").write_text("from torchvision import extension, _meta_registrations\n")
    (package / "_meta_registrations.py").write_text(REGISTRATIONS)
    (package / "extension.py").write_text(extension.format(loads=loads))
    return package / "extension.py"


def run_repair(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The module as `make setup` runs it, with `folder` in front of everything installed."""
    command = [sys.executable, "-m", "cpt.cli.torchvision_repair", *arguments]
    environment = {"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)


def test_repair_declares_the_operators_once(tmp_path: Path):
    extension = fake_torchvision(tmp_path, loads=False)
    first = run_repair(tmp_path)
    assert first.returncode == 0, first.stderr
    assert "declared nms and qnms" in first.stdout
    repaired = extension.read_text()
    second = run_repair(tmp_path)
    assert (second.returncode, second.stdout) == (0, "torchvision: already repaired, nothing done\n")
    assert extension.read_text() == repaired


def test_repair_can_be_undone(tmp_path: Path):
    extension = fake_torchvision(tmp_path, loads=False)
    before = extension.read_text()
    run_repair(tmp_path)
    assert extension.read_text() != before
    assert "repair removed" in run_repair(tmp_path, "--undo").stdout
    assert extension.read_text() == before
    assert "nothing done" in run_repair(tmp_path, "--undo").stdout


def test_a_working_torchvision_is_left_alone(tmp_path: Path):
    extension = fake_torchvision(tmp_path, loads=True)
    before = extension.read_text()
    assert run_repair(tmp_path).stdout == "torchvision: loads as installed, nothing done\n"
    assert extension.read_text() == before


def test_another_failure_is_reported_and_nothing_changed(tmp_path: Path):
    extension = fake_torchvision(tmp_path, loads=False, extension="raise ImportError('no such disk')\n")
    before = extension.read_text()
    result = run_repair(tmp_path)
    assert result.returncode == 1
    assert "no such disk" in result.stderr
    assert extension.read_text() == before


def test_a_file_shared_with_an_installer_s_cache_is_not_written_through(tmp_path: Path):
    extension = fake_torchvision(tmp_path, loads=False)
    cached = tmp_path / "cached.py"
    cached.hardlink_to(extension)
    before = cached.read_text()
    assert run_repair(tmp_path).returncode == 0
    assert cached.read_text() == before


def test_what_lies_in_the_working_folder_is_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Neither by the look at a package nor by pip. The stand-in of pip, found first, keeps the real one out of this."""
    installed, here = tmp_path / "site", tmp_path / "here"
    for folder in (installed, here):
        folder.mkdir()
    (installed / "torchaudio.py").write_text("raise ImportError('libcudart')\n")
    (installed / "pip.py").write_text(
        f"import sys; open({str(tmp_path / 'asked')!r}, 'w').write(' '.join(sys.argv[1:]))"
    )
    for name in ("torchaudio.py", "pip.py"):
        (here / name).write_text(f"open({str(tmp_path / 'executed')!r}, 'w').close()\n")
    monkeypatch.setenv("PYTHONPATH", str(installed))
    monkeypatch.syspath_prepend(str(installed))
    monkeypatch.chdir(here)
    monkeypatch.setattr("cpt.cli.torchvision_repair.BESIDE", ("torchaudio",))
    assert remove_what_cannot_load() == ["torchaudio"]
    assert (tmp_path / "asked").read_text() == "uninstall --quiet --yes torchaudio"
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("accelerator", ["cpu", "gpu"])
def test_the_lock_satisfies_the_stated_dependencies(accelerator: str):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    stated = [Requirement(text) for text in project["dependencies"] + extras[accelerator] + extras["dev"]]
    lock = read_lock((ROOT / "requirements" / f"lock-{accelerator}.txt").read_text(encoding="utf-8"))
    assert all(name == canonicalize_name(name) for name in lock)
    unsatisfied = [
        str(item) for item in stated if not item.specifier.contains(lock.get(canonicalize_name(item.name), "0"))
    ]
    assert not unsatisfied, f"run `make lock`: {unsatisfied}"


def test_the_cpu_lock_leaves_out_what_does_not_load_there():
    lock = read_lock((ROOT / "requirements" / "lock-cpu.txt").read_text(encoding="utf-8"))
    assert not {"torchaudio", "torchcodec", "vllm"} & set(lock)
    assert not [name for name in lock if name.startswith("nvidia-")]
    # A build such as +cpu is the index's business; a pin of it fails on an index that has only others.
    assert not [version for version in lock.values() if "+" in version]


def test_the_fingerprint_follows_the_accelerator():
    install = script("install")
    assert install.fingerprint("cpu") == install.fingerprint("cpu")
    assert install.fingerprint("cpu") != install.fingerprint("gpu")
