"""The wheel: what it is called, what it holds, and that it works outside of a checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.smoke
ROOT = Path(__file__).resolve().parents[2]
PARTS = ("cpt", "rewards", "recipes", "pyproject.toml", "README.md", "LICENSE")


def pip(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *map(str, arguments)], check=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: building leaves files beside the sources."""
    folder = tmp_path_factory.mktemp("sources")
    for name in PARTS:
        part = ROOT / name
        if part.is_dir():
            shutil.copytree(part, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(part, folder / name)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder / "dist", folder)
    (found,) = (folder / "dist").glob("*.whl")
    return found


def test_what_the_wheel_holds(wheel: Path):
    assert wheel.name.startswith("continual_post_training-")
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = {f"cpt/recipe/shipped/{path.relative_to(ROOT / 'recipes')}" for path in (ROOT / "recipes").glob("**/*.*")}
    assert {name for name in shipped if "__pycache__" not in name} <= names
    data = ("tasks/world/tiny/model.safetensors", "report/page.html.j2", "report/rewards/page.html.j2")
    others = {"cpt/cli/torchvision_repair.py", "rewards/lab/audit_examples.json"}
    assert {*others, *(f"cpt/{name}" for name in data)} <= names


def test_it_plans_a_shipped_recipe_outside_of_a_checkout(wheel: Path, tmp_path: Path):
    pip("install", "--no-deps", "--target", tmp_path / "site", wheel)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code = "import cpt, sys; print(cpt.__file__); from cpt.cli.app import main; main(sys.argv[1:])"
    for recipe in ("quickstart", "recipes/reward_study.yaml"):
        done = subprocess.run(
            [sys.executable, "-c", code, "plan", recipe],
            capture_output=True,
            text=True,
            cwd=elsewhere,
            env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(str(tmp_path / "site" / "cpt"))
        assert "builtin/tiny-qwen2_5-vl" in done.stdout
    assert not list(elsewhere.iterdir())
