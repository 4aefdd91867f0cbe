"""The Ray cluster of a run: one of our own on this machine, or an existing one; what a process on it may use."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cpt.preflight import gpu_shares
from cpt.types import RunFailed

if TYPE_CHECKING:
    from cpt.recipe.schema import Resources, Rollout

logger = logging.getLogger(__name__)

_OBJECT_STORE_BYTES = 512 << 20  # on one machine without a GPU: a few copies of a small policy's weights
_STARTS = 3
_ANSWER_SECONDS = 10.0
_TOO_SLOW = "timed out during startup"
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


@dataclass(frozen=True)
class Share:
    """What Ray reserves for one trainer and for each engine."""

    trainer_gpus: float
    engine_gpus: float


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Connect to the cluster at `address`, or start one on this machine that ends with the block.

    A Ctrl-C or a SIGTERM to the driver ends the block as KeyboardInterrupt, so that the actors go with it; a driver
    that is killed outright takes the local cluster along, since Ray's processes die with their parent.

    Raises:
        ValueError: there is no cluster at `address`, or it takes no connection from here.
        RunFailed: Ray was too slow to start on this machine.
    """
    if address is not None:
        _check_answers(address)
    os.environ.update({name: os.environ.get(name, value) for name, value in _QUIET.items()})
    import ray

    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address is None:
        # Three logical CPUs at least: a trainer, the next one, which imports already, and an engine must fit, though
        # they take turns.
        options |= {"num_cpus": max(3, os.cpu_count() or 3), "include_dashboard": False}
        if not has_gpu():
            options["object_store_memory"] = _OBJECT_STORE_BYTES
    _start(address or "local", options)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        ray.shutdown()


def _start(address: str, options: dict[str, Any]) -> None:
    """ray.init, again where a busy machine was too slow for it. RunFailed if it stays so; ValueError see `cluster`.

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
                raise
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


def has_gpu() -> bool:
    """Whether this machine has an NVIDIA GPU."""
    return Path("/dev/nvidia0").exists()  # asking torch would import it before Ray starts


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
