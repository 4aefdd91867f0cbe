"""Starting Ray on a busy machine, and connecting to one that is there or not."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from cpt.common.errors import RunFailed
from cpt.run import reaper
from cpt.run.cluster import RayDied, Watch, cluster

SLOW = Exception("The current node timed out during startup. This could happen because …")


# Ray's library takes its settings from the environment again before every start.
SETTINGS = SimpleNamespace(Config=SimpleNamespace(initialize=lambda settings: None))


def fake_ray(monkeypatch: pytest.MonkeyPatch, *outcomes: Exception | None) -> list[str]:
    """A ray whose init does these things, call after call; returns what was called."""
    calls: list[str] = []
    left = iter(outcomes)

    def init(**_: object) -> None:
        calls.append("init")
        outcome = next(left)
        if outcome is not None:
            raise outcome

    module = SimpleNamespace(init=init, shutdown=lambda: calls.append("shutdown"), _raylet=SETTINGS)
    monkeypatch.setitem(sys.modules, "ray", module)
    return calls


def test_a_start_that_took_too_long_is_tried_again(monkeypatch):
    calls = fake_ray(monkeypatch, SLOW, None)
    with cluster(None):
        assert calls == ["init", "shutdown", "init"]
    assert calls[-1] == "shutdown"


def test_three_slow_starts_are_one_clear_sentence(monkeypatch):
    calls = fake_ray(monkeypatch, SLOW, SLOW, SLOW)
    with pytest.raises(RunFailed, match="too busy"), cluster(None):
        pass
    assert calls.count("init") == 3


def test_another_error_is_one_clear_sentence_too(monkeypatch):
    calls = fake_ray(monkeypatch, OSError("no room for the object store"))
    with pytest.raises(RunFailed, match=r"^Ray did not start on this machine: no room"), cluster(None):
        pass
    assert calls == ["init", "shutdown"]


@pytest.mark.parametrize(("cpus", "gpus", "expected"), [(2, 0, (3, True)), (8, 0, (8, True)), (8, 1, (8, False))])
def test_what_a_local_ray_is_given(monkeypatch, cpus, gpus, expected):
    """As many processors as the checks before a run count; a small object store where there is no GPU."""
    given: dict[str, object] = {}
    monkeypatch.setitem(
        sys.modules,
        "ray",
        SimpleNamespace(init=lambda **own: given.update(own), shutdown=lambda: None, _raylet=SETTINGS),
    )
    monkeypatch.setattr("os.cpu_count", lambda: cpus)
    monkeypatch.setattr("cpt.run.cluster.gpu_count", lambda: gpus)
    with cluster(None):
        assert (given["num_cpus"], "object_store_memory" in given) == expected


@pytest.fixture
def listening() -> Iterator[int]:
    """A port of this machine where somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nobody_listens_is_one_clear_line_at_once(monkeypatch, listening, scheme):
    calls = fake_ray(monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    message = rf"no Ray cluster answers at {scheme}127\.0\.0\.1:{free} \(Connection refused\); check --address"
    with pytest.raises(ValueError, match=message) as caught, cluster(f"{scheme}127.0.0.1:{free}"):
        pass
    assert len(str(caught.value).splitlines()) == 1
    assert calls == []


def test_a_port_that_is_no_number_is_refused(monkeypatch):
    fake_ray(monkeypatch)
    with pytest.raises(ValueError, match=r"answers at head:10OO1 \(Port could not be cast"), cluster("head:10OO1"):
        pass


@pytest.mark.parametrize("error", [ConnectionError, RuntimeError])
def test_a_cluster_that_refuses_is_one_clear_line(monkeypatch, listening, error):
    calls = fake_ray(monkeypatch, error("Failed to connect:\nTraceback\n TimeoutError: late\n"))
    message = rf"Ray can't connect to 127\.0\.0\.1:{listening}: Failed to connect: … TimeoutError: late; check that"
    with pytest.raises(ValueError, match=message), cluster(f"127.0.0.1:{listening}"):
        pass
    assert calls == ["init"]


@pytest.mark.parametrize("address", ["auto", "127.0.0.1:{port}", "ray://127.0.0.1:{port}"])
def test_an_address_is_connected_to(monkeypatch, listening, address):
    calls = fake_ray(monkeypatch, None)
    with cluster(address.format(port=listening)):
        assert calls == ["init"]
    assert calls == ["init", "shutdown"]


@pytest.fixture
def raylet(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that looks like Ray's raylet of the folder `tmp_path`."""
    program = shutil.copy(shutil.which("sleep") or "", tmp_path / "raylet")
    process = subprocess.Popen([program, "600"], env={reaper.MARK: str(tmp_path)})
    yield process
    process.kill()
    process.wait()


def dies(raylet: subprocess.Popen[bytes], then: Callable[[], object]) -> None:
    """A block that is watched, in which Ray dies."""
    raylet.kill()
    raylet.wait()
    then()


def test_when_ray_dies_the_run_ends_at_once_with_one_line(raylet, tmp_path):
    message = r"^Ray died \(killed, or out of memory\); the same command again goes on from here$"
    began = time.monotonic()
    with pytest.raises(RayDied, match=message), Watch(str(tmp_path)):
        dies(raylet, lambda: time.sleep(60))
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(("error", "told"), [(ConnectionError, RayDied), (KeyboardInterrupt, KeyboardInterrupt)])
def test_an_error_that_comes_of_rays_death_says_so(raylet, tmp_path, monkeypatch, error, told):
    """But not one that has killed Ray, as a signal to all processes of a terminal."""
    monkeypatch.setattr(Watch, "_look", lambda _: None)  # the error is faster

    def fail() -> None:
        raise error("a page of C++")

    with pytest.raises(told), Watch(str(tmp_path)):
        dies(raylet, fail)


def test_a_run_that_ends_before_ray_is_left_alone(raylet, tmp_path):
    with Watch(str(tmp_path)):
        assert raylet.poll() is None


def test_an_error_of_another_process_is_one_line(monkeypatch):
    class TaskError(OSError):
        """As Ray raises it: of the cause's kind, with the other process's traceback for a message."""

        cause = OSError(28, "No space left on device")

    TaskError.__module__ = "ray.exceptions"
    fake_ray(monkeypatch, None)
    message = r"^a process of the run failed: OSError: \[Errno 28\] No space left on device$"
    with pytest.raises(RunFailed, match=message), cluster(None):
        raise TaskError("ray::EngineActor.load()\n" * 120)
