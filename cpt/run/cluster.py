"""The Ray cluster of a run: one of our own on this machine, or an existing one; what a process on it may use."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cpt.common.errors import RunFailed
from cpt.plan.preflight import gpu_count, gpu_shares, local_cpus
from cpt.run.local_ray import changed, check_loopback, inside, private_folder, reread_environment, surroundings, token
from cpt.run.reaper import DIED, kill, name_of, processes_of, wake_at_end

if TYPE_CHECKING:
    from cpt.recipe.schema import Resources, Rollout

logger = logging.getLogger(__name__)

_OBJECT_STORE_BYTES = 512 << 20  # on one machine without a GPU: a few copies of a small policy's weights
_STARTS = 3
_ANSWER_SECONDS = 10.0
_RAY_OPTIONS: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
_WATCH_SECONDS = 0.2
_VITAL = ("gcs_server", "raylet", "ray::DashboardA", "ray::RuntimeEnv")  # the raylet goes with its two agents
_TOO_SLOW = "timed out during startup"
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


@dataclass(frozen=True)
class Share:
    """What Ray reserves for one trainer and for each engine."""

    trainer_gpus: float
    engine_gpus: float


class RayDied(RunFailed):
    """Ray's own processes are gone (killed, out of memory). The same command goes on from what is on disk."""


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Connect to the cluster at `address`, or start one on this machine that ends with the block.

    A Ctrl-C or a SIGTERM to the driver ends the block as KeyboardInterrupt, so that the actors go with it; a driver
    that is killed outright takes the local cluster along (`reaper.py`). One of our own listens on the loopback alone.

    Raises:
        ValueError: there is no cluster at `address`, or it takes no connection from here; or there is no folder for a
            local one.
        RunFailed: Ray did not start on this machine, or the loopback is down.
        RayDied: Ray itself ended before the block.

    What one of Ray's errors says of a process of the run leaves the block as a RunFailed of one line.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in _QUIET.items()})
    with _connected(address) if address is not None else _own_cluster():
        before = signal.signal(signal.SIGTERM, _same_as_ctrl_c())  # ray.init has set another one
        try:
            yield
        except Exception as error:
            if told := _of_another_process(error):
                raise RunFailed(told) from error
            raise
        finally:
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _connected(address: str) -> Iterator[None]:
    _check_answers(address)
    import ray

    reread_environment()
    with TemporaryDirectory() as empty, inside(Path(empty)):
        _start(address, dict(_RAY_OPTIONS))
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _own_cluster() -> Iterator[None]:
    options: dict[str, Any] = {"num_cpus": local_cpus(), "include_dashboard": False}
    if not gpu_count():  # asking torch would import it before Ray starts
        options["object_store_memory"] = _OBJECT_STORE_BYTES
    check_loopback()
    with private_folder() as folder, changed(token()):
        import ray

        reread_environment()
        try:
            with surroundings(folder.path):
                _start("local", {**_RAY_OPTIONS, **options, "_temp_dir": str(folder.path / "r")})
            watch = Watch(str(folder.path), folder.died)
            folder.watch(watch.vital)
            with watch:
                yield
        except RayDied:  # to shut it down may end this process; then the reaper tells
            raise
        except BaseException:
            folder.told()
            raise
        else:
            folder.told()
        finally:
            ray.shutdown()


def _start(address: str, options: dict[str, Any]) -> None:
    """ray.init, again where a busy machine was too slow for it. RunFailed and ValueError: see `cluster`.

    Ray 2.60 gives a local node 30 s, which can't be set, and then raises a bare Exception.
    """
    import ray

    for _ in range(_STARTS):
        try:
            ray.init(address=address, **options)
        except Exception as error:
            if address != "local":
                raise ValueError(
                    f"Ray can't connect to {address}: {_reason(error)}; check that the same version of Ray runs there, "
                    "and its token (RAY_AUTH_MODE=token and its RAY_AUTH_TOKEN in the environment)"
                ) from error
            if _TOO_SLOW not in str(error):
                raise RunFailed(f"Ray did not start on this machine: {_reason(error)}") from error
            logger.warning("Ray was not up after 30 s; trying again")
            ray.shutdown()
        else:
            return
    raise RunFailed(
        f"Ray did not start within 30 s, {_STARTS} times in a row: this machine is too busy. Close other programs and "
        "run the same command again; nothing is lost"
    )


def _reason(error: Exception) -> str:
    """What a message of Ray's says, without the traceback of another process between its first and last line."""
    first, *others = str(error).strip().splitlines() or [type(error).__name__]
    return " … ".join([first, *(line.strip() for line in others[-1:])])


def _of_another_process(error: Exception) -> str | None:
    """One line for an error of Ray's, which is the whole traceback of another process; None for any other error."""
    if not any(kind.__module__.startswith("ray.") for kind in type(error).__mro__):
        return None
    cause = getattr(error, "cause", None)
    return _reason(error) if cause is None else f"a process of the run failed: {type(cause).__name__}: {cause}"


def _check_answers(address: str) -> None:
    """ValueError if nobody listens at an address with a port: Ray itself would go on trying for minutes."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = parts.hostname, parts.port
        if host and port:
            socket.create_connection((host, port), _ANSWER_SECONDS).close()
    except (OSError, ValueError) as error:  # a port that is no number is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"no Ray cluster answers at {address} ({reason}); check --address, such as HEAD:6379 or ray://HEAD:10001, "
            "and `ray status` on the head"
        ) from error


def share_of(rollout: Rollout, wanted: Resources) -> Share:
    """GPUs as the recipe wants them; `auto` gives trainer and engines one each, or the halves of a single one, or none.

    Call inside `cluster`.
    """
    import ray

    gpus = ray.cluster_resources().get("GPU", 0.0)
    return Share(*gpu_shares(gpus, rollout.engines, wanted.trainer_gpus, wanted.engine_gpus))


def _same_as_ctrl_c() -> Callable[..., Any]:
    """What SIGINT does, which the command line has set."""
    found = signal.getsignal(signal.SIGINT)
    return found if callable(found) else signal.default_int_handler


class Watch:
    """Ends a block with `RayDied` when one of the processes that Ray can't do without is gone.

    Ray itself ends this process at once or after a minute; where it is faster than this watch, `cpt.run.reaper` tells.

    Attributes:
        vital: those processes.
    """

    def __init__(self, folder: str, on_death: Callable[[], None] = lambda: None) -> None:
        self._folder, self._on_death = folder, on_death
        self.vital = [process for process in processes_of(folder) if (name_of(process) or "").startswith(_VITAL)]
        self._over = threading.Event()
        self._died = False
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGUSR1, self._raise)
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._over.set()
        self._thread.join()
        signal.signal(signal.SIGUSR1, self._before)
        if self._died or (self._dead() and kind is not KeyboardInterrupt):
            self._raise()

    def _raise(self, *_: object) -> None:
        raise RayDied(DIED) from None

    def _look(self) -> None:
        with ExitStack() as stack:
            ends = select.poll()
            for descriptor in wake_at_end(self.vital, ends):
                stack.callback(os.close, descriptor)
            while not self._dead():
                ends.poll(1000 * _WATCH_SECONDS)
                if self._over.is_set():
                    return
        self._died = True
        self._on_death()
        vital = [process for process in self.vital if name_of(process)]
        for process in [*vital, *processes_of(self._folder)]:  # before what is left of Ray tells about it at length
            kill(process)
        os.kill(os.getpid(), signal.SIGUSR1)  # wakes the main thread, wherever it waits

    def _dead(self) -> bool:
        return any(name_of(process) is None for process in self.vital)
