"""Names that stand for the recipes that come with cpt."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpt.recipe import load_recipe
from cpt.recipe.shipped_recipes import find, headline, shipped, text_of
from cpt.recipe.source import SHIPPED

ROOT = Path(__file__).resolve().parents[2]


def test_they_are_those_of_the_repository():
    assert {path.name for path in shipped().values()} == {path.name for path in (ROOT / "recipes").glob("*.yaml")}
    assert all(headline(path) for path in shipped().values())


@pytest.mark.parametrize("name", ["quickstart", "quickstart.yaml", "recipes/quickstart.yaml", "recipes/quickstart"])
def test_a_name_stands_for_its_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert find(Path(name)) == SHIPPED / "quickstart.yaml"
    assert load_recipe(name).name == "quickstart"


def test_a_file_of_ones_own_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "quickstart.yaml"
    own.write_text((SHIPPED / "quickstart.yaml").read_text().replace("name: quickstart", "name: own"))
    assert load_recipe("quickstart.yaml").name == "own"
    elsewhere = tmp_path / "other" / "quickstart.yaml"
    assert find(elsewhere) == elsewhere  # another folder is meant


def test_a_misspelt_name_is_told_the_nearest_and_where_the_others_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("version: 1")
    with pytest.raises(ValueError, match=r"^quikstart: .*; is it quickstart\? \(`cpt recipes` lists") as caught:
        load_recipe("quikstart")
    assert "mine.yaml" not in str(caught.value)
    with pytest.raises(ValueError, match=r"^nosuch: there is no such recipe file \(`cpt recipes` lists"):
        load_recipe("nosuch")


def test_a_name_of_none_is_told_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'quickstart'"):
        text_of("quikstart")
