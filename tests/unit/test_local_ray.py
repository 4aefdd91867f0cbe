"""Where a run's own Ray lives, what it finds there, and that it goes with the run."""

from __future__ import annotations

import errno
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cpt.common.errors import RunFailed
from cpt.common.processes import WORKING_FOLDER
from cpt.run import reaper
from cpt.run.local_ray import (
    LONGEST,
    changed,
    check_loopback,
    choose_folder,
    environment_of,
    private_folder,
    surroundings,
    token,
)

ROOT = Path(__file__).resolve().parents[2]
SLEEP = [sys.executable, "-c", "import sys, time; print(flush=True); time.sleep(600)"]


def test_the_longest_path_of_a_socket_fits():
    session = "session_2026-12-31_23-59-59_999999_4194304"
    socket_path = f"{'x' * LONGEST}/cpt-XXXXXXXX/r/{session}/sockets/plasma_store"
    assert len(socket_path) == 107


def test_the_folder_that_the_environment_names_is_taken_if_it_serves(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    most = len(os.fsencode(one))
    assert choose_folder({"TMPDIR": str(two)}, most) == (two, "")
    assert choose_folder({"TMPDIR": str(two), "RAY_TMPDIR": str(one)}, most) == (one, "")
    assert choose_folder({"TMPDIR": "", "RAY_TMPDIR": ""}, most) == (Path("/tmp"), "")


def test_a_folder_that_does_not_serve_is_told_and_replaced(tmp_path):
    most = len(os.fsencode(tmp_path)) - 1
    too_long = f"TMPDIR={tmp_path} is too long for the path of a socket (at most {most} bytes)"
    assert choose_folder({"TMPDIR": str(tmp_path)}, most) == (Path("/tmp"), f"Ray's files go to /tmp: {too_long}")
    path, note = choose_folder({"RAY_TMPDIR": str(tmp_path / "nowhere")}, 1000)
    assert path == Path("/tmp")
    assert note.endswith("nowhere is no folder that can be written")


def test_without_any_folder_a_line_says_what_to_set():
    with pytest.raises(ValueError, match=r"/tmp is too long .*; /var/tmp is too long .*; set RAY_TMPDIR to") as caught:
        choose_folder({}, 3)
    assert "\n" not in str(caught.value)


def test_the_environment_of_a_local_ray(tmp_path):
    found = environment_of({"PYTHONPATH": f"lib:{tmp_path}:/abs:"}, "/tmp/cpt-x", str(tmp_path))
    assert found["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    assert (found["VLLM_HOST_IP"], found["GLOO_SOCKET_IFNAME"]) == ("127.0.0.1", "lo")
    assert found["PYTHONPATH"].split(":") == [
        str(ROOT),
        f"{tmp_path}/lib",
        "/abs",
    ]  # the clone first; no working folder
    assert found["PYTHONSAFEPATH"] == "1"


def test_ray_starts_from_an_empty_folder_and_all_is_as_it_was_afterwards(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    before = dict(os.environ)
    with private_folder() as private, changed(token()):
        with surroundings(private.path):
            assert list(Path.cwd().iterdir()) == []
            assert os.environ["PYTHONSAFEPATH"] == "1"
            assert os.environ[WORKING_FOLDER] == str(tmp_path)
        assert os.environ.pop("RAY_AUTH_MODE") == "token"
        assert len(os.environ.pop("RAY_AUTH_TOKEN")) == 64
        assert os.environ.keys() == before.keys() - {"RAY_AUTH_MODE"}
    assert os.environ == before
    assert Path.cwd() == tmp_path


def test_a_loopback_that_is_down_is_one_clear_line(monkeypatch):
    check_loopback()

    def unreachable(*_: object, **__: object) -> None:
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", unreachable)
    with pytest.raises(
        RunFailed, match=r"over the loopback \(127\.0\.0\.1: Network is unreachable; ::1: .*ip link set lo up"
    ):
        check_loopback()


def started(folder: Path, *, marked: bool) -> subprocess.Popen[bytes]:
    """A process at work in a folder."""
    env = {**os.environ, reaper.MARK: str(folder)} if marked else dict(os.environ)
    process = subprocess.Popen(SLEEP, env=env, cwd=folder, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_the_folder_is_private_and_goes_with_all_that_is_rays():
    with private_folder() as private:
        folder = private.path
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        ours, users = started(folder, marked=True), started(folder, marked=False)
        assert reaper.processes_of(str(folder)) == [ours.pid]
    assert not folder.exists()
    assert ours.wait(10) == -signal.SIGKILL
    assert users.poll() is None  # somebody who looks into a log
    users.kill()
    users.wait()


def test_a_run_that_is_killed_takes_its_folder_and_its_processes_along():
    program = (
        "import os, subprocess, sys, time; from cpt.run import reaper; from cpt.run.local_ray import private_folder\n"
        "with private_folder() as private:\n"
        "    folder = private.path\n"
        "    env = {**os.environ, reaper.MARK: str(folder)}\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], env=env)\n"
        "    print(folder, child.pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    run = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert run.stdout is not None
    folder, child = run.stdout.readline().split()
    assert Path(folder).is_dir()
    run.kill()
    run.wait()
    end = time.monotonic() + 30
    while Path(folder).exists() or int(child) in reaper.processes_of(folder):
        assert time.monotonic() < end, "the folder or the process is still there"
        time.sleep(0.05)
    assert not reaper.processes_of(folder)


@pytest.mark.parametrize(
    ("last", "told"),
    [
        ("os._exit(1)", "cpt: error: Ray died (killed, or out of memory); the same command again goes on from here\n"),
        ("private.close(); os._exit(1)", ""),  # the run tells it itself
    ],
)
def test_when_rays_library_ends_the_run_without_a_word_there_still_is_the_line(last: str, told: str):
    program = (
        "import os, subprocess, sys, time; from cpt.run.local_ray import private_folder\n"
        "with private_folder() as private:\n"
        "    ray = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "    private.watch([ray.pid])\n"
        "    ray.kill(); ray.wait(); private.died()\n"
        f"    {last}\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (1, told)
