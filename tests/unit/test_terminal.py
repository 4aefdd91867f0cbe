"""Output that can't be written, Ctrl-C, and where Python looks for modules."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cpt.common import terminal
from cpt.common.terminal import CtrlC, Output, lost, without_working_folder

ROOT = Path(__file__).resolve().parents[2]


def test_a_full_disk_is_remembered_and_raises_nothing():
    with open("/dev/full", "w", encoding="utf-8") as full:
        out = Output(full)
        for _ in range(3):
            assert out.write("a line\n") == 7
            out.flush()
        assert lost(out) == "standard output can't be written (No space left on device)"
        full.flush()  # as Python does at its end: nothing may be left to write there


def test_a_reader_who_has_left_is_no_failure_to_tell():
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as pipe:
        out = Output(pipe)
        print("a line", file=out, flush=True)
        assert isinstance(out.failure, BrokenPipeError)
        assert lost(out) is None


def test_what_the_terminal_can_not_write_stays_readable():
    raw = io.BytesIO()
    out = Output(io.TextIOWrapper(raw, encoding="ascii"))
    out.write("−5.5 ± 0.5 → café × 3, 图 \udc80\n")
    out.flush()
    assert raw.getvalue() == b"-5.5 +- 0.5 -> caf? x 3, ? ?\n"
    raw = io.BytesIO()
    out = Output(io.TextIOWrapper(raw, encoding="utf-8"))
    out.write("−5.5 图 \udc80\n")
    out.flush()
    assert raw.getvalue().decode() == "−5.5 图 ?\n"


def test_pages_of_rays_are_not_shown():
    shown = io.StringIO()
    out = Output(shown)
    ray = threading.Thread(target=lambda: print("(raylet) [state-dump]", file=out), name="ray_listen_error_messages")
    ray.start()
    ray.join()
    print("ours", file=out)
    assert shown.getvalue() == "ours\n"


def command(shell: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command of cpt's, `$CPT`, in a shell."""
    env = {**os.environ, "CPT": f"{sys.executable} -m cpt.cli", "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False, env=env)


@pytest.mark.parametrize(
    ("shell", "code", "told"),
    [
        ("$CPT tasks > /dev/full", 1, "cpt: standard output can't be written (No space left on device)\n"),
        ("$CPT plan nowhere.yaml >&- 2>&-", 2, ""),
        ("PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 LC_ALL=C $CPT rewards list", 0, ""),
    ],
)
def test_exit_codes_do_not_depend_on_who_reads(shell: str, code: int, told: str):
    done = command(shell)
    assert (done.returncode, done.stderr) == (code, told)


def test_the_first_ctrl_c_lets_the_command_tidy_up_and_a_later_one_ends_it(monkeypatch, capfd):
    now = iter([10.0, 10.3, 12.0])
    ended: list[int] = []
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(terminal.os, "_exit", ended.append)
    ctrl_c = CtrlC()
    ctrl_c.line = "cpt: interrupted; go on"
    with pytest.raises(KeyboardInterrupt):
        ctrl_c()
    ctrl_c()  # the same press of an impatient hand
    assert ended == []
    ctrl_c()
    assert ended == [130]
    assert capfd.readouterr().err == "cpt: interrupted; go on\n"


def test_the_working_folder_is_not_searched_for_modules(tmp_path):
    here, link = tmp_path / "here", tmp_path / "link"
    here.mkdir()
    link.symlink_to(here)
    entries = ["", str(here), "/lib", f"{here}/", str(link), str(here / "own")]
    assert without_working_folder(entries, str(here), Path("/lib")) == ["/lib", str(here / "own")]
    assert without_working_folder(entries, str(here), here) == entries  # cpt itself lies there
    packages = "/usr/lib/python3/site-packages"
    assert without_working_folder(["/lib", packages], packages, Path("/work")) == ["/lib", packages]


def test_files_beside_the_recipe_are_not_imported(tmp_path):
    for name in ("cpt.py", "rewards.py", "yaml.py", "rich.py", "pydantic.py"):
        (tmp_path / name).write_text("raise SystemExit('the wrong one')\n")
    program = "from cpt.cli.app import main; main(['rewards', 'list'])"  # -P: as the script `cpt` does
    env = {**os.environ, "PYTHONPATH": f"{ROOT}::"}  # an empty entry is the working folder, as after `PYTHONPATH=$X:/y`
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
