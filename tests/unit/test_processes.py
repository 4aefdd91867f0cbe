"""Trainers and engines as processes: where they work, and that they run the driver's code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import cpt
import rewards
from cpt.common.errors import RunFailed
from cpt.common.processes import WORKING_FOLDER, check_same_code, enter_working_folder

HERE = " and ".join(str(Path(package.__file__ or "").resolve().parent) for package in (cpt, rewards))


class Actor:
    """Answers as a process would that has found cpt somewhere else, or with a changed text."""

    def __init__(self, folder: str | None = None, changed: bool = False) -> None:
        self.folder, self.changed = folder, changed
        self.__ray_call__ = SimpleNamespace(remote=self.call)

    def call(self, code: Callable[[object], tuple[str, str]]) -> tuple[str, str]:
        folder, text = code(self)
        assert folder == HERE
        return self.folder or folder, "0" * 32 if self.changed else text


@pytest.fixture(autouse=True)
def ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=list))


def test_a_process_with_another_text_at_another_place_is_refused():
    check_same_code([Actor(), Actor("/of/another/machine/cpt")], "an engine")
    check_same_code([Actor(changed=True)], "an engine")  # edited meanwhile
    with pytest.raises(
        RunFailed, match=f"^an engine runs another cpt, that of /beside/cpt, than .* {HERE}; remove"
    ) as e:
        check_same_code([Actor(), Actor("/beside/cpt", changed=True)], "an engine")
    assert "\n" not in str(e.value)


def test_a_process_works_where_the_driver_does(monkeypatch, tmp_path):
    monkeypatch.chdir("/")
    monkeypatch.delenv(WORKING_FOLDER, raising=False)
    enter_working_folder()  # on a cluster of somebody else's
    assert os.getcwd() == "/"
    monkeypatch.setenv(WORKING_FOLDER, str(tmp_path / "nowhere"))
    enter_working_folder()
    assert os.getcwd() == "/"
    monkeypatch.setenv(WORKING_FOLDER, str(tmp_path))
    enter_working_folder()
    assert os.getcwd() == str(tmp_path)
