"""The Ray cluster of a run: a local one, or an existing one; and the GPUs that its processes get."""

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
_VITAL = (
    "gcs_server",
    "raylet",
    "ray::DashboardA",
    "ray::RuntimeEnv",
)  # the raylet ends with either agent
_TOO_SLOW = "timed out during startup"
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


@dataclass(frozen=True)
class Placement:
    """GPUs that Ray reserves for the trainer and for each engine."""

    trainer_gpus: float
    engine_gpus: float


class RayDied(RunFailed):
    """Ray's own processes have ended (killed, out of memory). The same command continues from what is on disk."""


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Connect to the cluster at `address`, or start a local one that ends with the block.

    Ctrl-C or SIGTERM raises KeyboardInterrupt in the block, so that the actors end too. If the driver is killed, the
    local cluster ends with it (`reaper.py`). A local cluster listens on the loopback only.

    Raises:
        ValueError: there is no cluster at `address`, or it refuses the connection; or a local one has no folder.
        RunFailed: Ray did not start on this machine, the loopback is down, or a process of the run failed; Ray's
            traceback of that process becomes one line.
        RayDied: Ray itself ended before the block.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in _QUIET.items()})
    with _connected(address) if address is not None else _own_cluster():
        before = signal.signal(signal.SIGTERM, _same_as_ctrl_c())  # ray.init replaces it
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
    if not gpu_count():  # torch would know too, but is not imported before Ray starts
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
        except RayDied:  # ray.shutdown may end this process; then the reaper prints the message
            raise
        except BaseException:
            folder.told()
            raise
        else:
            folder.told()
        finally:
            ray.shutdown()


def _start(address: str, options: dict[str, Any]) -> None:
    """ray.init, repeated if the machine was too slow. RunFailed and ValueError: see `cluster`.

    Ray 2.60 gives a local node a fixed 30 s, then raises a bare Exception.
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
        "run the same command again; no results are lost"
    )


def _reason(error: Exception) -> str:
    """First and last line of a message from Ray, without the traceback between them."""
    first, *others = str(error).strip().splitlines() or [type(error).__name__]
    return " … ".join([first, *(line.strip() for line in others[-1:])])


def _of_another_process(error: Exception) -> str | None:
    """One line for an error that Ray raises for a failed process; None for any other error."""
    if not any(kind.__module__.startswith("ray.") for kind in type(error).__mro__):
        return None
    cause = getattr(error, "cause", None)
    return _reason(error) if cause is None else f"a process of the run failed: {type(cause).__name__}: {cause}"


def _check_answers(address: str) -> None:
    """ValueError if nothing listens at the address; Ray would keep trying for minutes."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = parts.hostname, parts.port
        if host and port:
            socket.create_connection((host, port), _ANSWER_SECONDS).close()
    except (OSError, ValueError) as error:  # ValueError: the port is no number
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"no Ray cluster answers at {address} ({reason}); check --address, such as HEAD:6379 or ray://HEAD:10001, "
            "and `ray status` on the head"
        ) from error


def placement_of(rollout: Rollout, wanted: Resources) -> Placement:
    """The GPUs that a recipe asks for; `auto` means one each for trainer and engines, half of a single one, or none.

    Call it inside `cluster`.
    """
    import ray

    gpus = ray.cluster_resources().get("GPU", 0.0)
    return Placement(*gpu_shares(gpus, rollout.engines, wanted.trainer_gpus, wanted.engine_gpus))


def _same_as_ctrl_c() -> Callable[..., Any]:
    """The handler of SIGINT, which the command line has installed."""
    found = signal.getsignal(signal.SIGINT)
    return found if callable(found) else signal.default_int_handler


class Watch:
    """Raises `RayDied` in a block when a process that Ray needs has ended.

    Ray's library may end this process first; then `cpt.run.reaper` prints the message.

    Attributes:
        vital: the processes that Ray needs.
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
        for process in [*vital, *processes_of(self._folder)]:  # before the rest of Ray prints pages about it
            kill(process)
        os.kill(os.getpid(), signal.SIGUSR1)  # interrupts whatever the main thread waits for

    def _dead(self) -> bool:
        return any(name_of(process) is None for process in self.vital)
