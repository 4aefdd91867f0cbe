"""The rollout pool: the one handle through which all of a run generates."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cpt.common.errors import RunFailed
from cpt.common.processes import check_same_code, enter_working_folder
from cpt.models.load import resolve_model
from cpt.rollout.engine import UNLOADED, EngineSettings, StaleWeights, check_sampling
from cpt.rollout.local import EngineName, build_engine, choose_engine, local_folder
from cpt.rollout.sync import fingerprint, pack, read_folder
from cpt.rollout.threads import engine_env
from cpt.types import Completion, GenerationRequest, SamplingParams, ScoringRequest

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

MAX_RESTARTS = 5  # of each engine in its life
RESTART_TIMEOUT = 600.0  # seconds a restarted engine may take until it answers
_POLL_SECONDS = 0.25


class EngineLost(RunFailed):
    """An engine can't be brought back."""


@dataclass(frozen=True)
class Pushed:
    """The weights a handle pushed last.

    Attributes:
        reference: of the packed tensors in Ray's object store, owned by the process that pushed; None for weights that
            another handle pushed and this one only reads, from `folder`, should an engine come back without them.
        fingerprint: see `cpt.rollout.sync.fingerprint`.
    """

    reference: Any
    version: str
    fingerprint: str
    folder: str | Path | None = None


@dataclass
class Stats:
    """What a handle has done so far. Seconds are this side's wall time."""

    pushes: int = 0
    push_seconds: float = 0.0
    calls: int = 0
    generate_seconds: float = 0.0
    completions: int = 0
    tokens: int = 0
    restarts: int = 0


class RolloutPool:
    """Ray actors with one inference engine each, all on the same weights. A handle can be pickled to other processes.

    Whoever generates pushes first: a handle only generates with weights that it can give again to an engine that died
    and came back: those that it pushed itself, or that lie in a folder. Weights in the object store live as long as the
    process that put them there; a trainer that has finished takes its weights along, so what is measured on its policy
    goes by `push_folder`, which sends nothing while the engines still hold what the trainer pushed last.

    Engines belong to the process that started them and end with it, or with `close`.
    """

    def __init__(self, actors: Sequence[Any], engine: EngineName, settings: EngineSettings) -> None:
        self.actors = list(actors)
        self.engine = engine
        self.settings = settings
        self.pushed: Pushed | None = None
        self.stats = Stats()

    @classmethod
    def start(
        cls,
        model_path: str | Path,
        *,
        engine: Literal["vllm", "hf", "auto"] = "auto",
        engines: int = 1,
        gpus_per_engine: float = 0.0,
        cpus_per_engine: float = 1.0,
        timeout: float = 900.0,
        **settings: Any,
    ) -> RolloutPool:
        """Start the engines and wait until they can generate. Ray must be initialised.

        Args:
            model_path: Hugging Face folder or Hub id.
            engine: kind of engine; `auto` is `choose_engine`'s.
            engines: how many.
            gpus_per_engine, cpus_per_engine: what each reserves in Ray.
            timeout: seconds until the last engine must be ready.
            settings: see `EngineSettings`.

        Raises:
            ValueError: the cluster can't hold the engines, or one failed to start.
        """
        import ray

        source = resolve_model(model_path)
        kind = choose_engine(source, gpus_per_engine) if engine == "auto" else engine
        chosen = EngineSettings(model_path=source, **settings)
        wanted = {"CPU": cpus_per_engine * engines, "GPU": gpus_per_engine * engines}
        _check_resources(wanted, engines)
        actor = ray.remote(max_restarts=MAX_RESTARTS)(EngineActor).options(
            num_cpus=cpus_per_engine,
            num_gpus=gpus_per_engine,
            runtime_env={"env_vars": engine_env(kind, gpu=gpus_per_engine > 0, engines=engines)},
        )
        pool = cls([actor.remote(kind, chosen) for _ in range(engines)], kind, chosen)
        try:
            pool._wait_until_ready(wanted, timeout)
        except BaseException:
            pool.close()
            raise
        return pool

    def push(self, named_tensors: Iterable[tuple[str, torch.Tensor]], version: str) -> float:
        """Give all engines these weights, under a version that must be new. Returns seconds."""
        import ray

        started = time.perf_counter()
        packed = pack(named_tensors, self.settings.dtype)
        mark = fingerprint(packed)
        self.pushed = Pushed(ray.put(packed), version, mark)
        del packed
        self._everywhere(self._load)
        seconds = time.perf_counter() - started
        self.stats.pushes += 1
        self.stats.push_seconds += seconds
        logger.info("weights %s (%s) pushed to %d engines in %.3f s", version, mark, len(self.actors), seconds)
        return seconds

    def push_folder(self, folder: str | Path, version: str) -> str:
        """Give all engines the weights in a model folder (or of a built-in model or Hub id). Returns the version.

        Nothing is sent if the engines hold that version, whoever pushed it.

        Raises:
            ValueError: the folder is missing, damaged, or of another architecture.
        """
        if any(info["version"] != version for info in self.info()):
            self.push(read_folder(local_folder(folder)), version)
        elif self.pushed is None or self.pushed.version != version:
            self.pushed = Pushed(None, version, "", folder)
        return version

    def generate(
        self, requests: Sequence[GenerationRequest], params: SamplingParams, *, version: str
    ) -> list[list[Completion]]:
        """`params.n` completions for each request, in the requests' order, made with the weights `version`.

        An engine that dies is waited for, given the weights again, and asked the same again.

        Raises:
            StaleWeights: this handle did not push `version` last, or somebody else pushed since.
            ValueError: sampling parameters, a prompt's length or its images don't fit the engines.
            EngineLost: an engine did not come back.
        """
        check_sampling(params)
        started = time.perf_counter()
        answers = self._shared(requests, version, lambda engine, share: engine.generate.remote(share, params, version))
        self._count(answers, time.perf_counter() - started)
        return answers

    def loglikelihood(self, requests: Sequence[ScoringRequest], *, version: str) -> list[list[float]]:
        """Log-probabilities of the completions' tokens, in the requests' order (see `Engine.loglikelihood`).

        An engine that dies is waited for, given the weights again, and asked the same again.

        Raises:
            StaleWeights: this handle did not push `version` last, or somebody else pushed since.
            ValueError: a text's length or its images don't fit the engines.
            EngineLost: an engine did not come back.
        """
        return self._shared(requests, version, lambda engine, share: engine.loglikelihood.remote(share, version))

    def info(self) -> list[dict[str, Any]]:
        """What every engine says of itself (see `Engine.info`)."""
        return self._everywhere(lambda i: self.actors[i].info.remote())

    def close(self) -> None:
        """End all engines. Other handles on them are dead, too."""
        import ray

        for actor in self.actors:
            ray.kill(actor, no_restart=True)
        self.actors = []

    def _load(self, index: int) -> Any:
        assert self.pushed is not None
        if self.pushed.folder is not None:
            import ray

            packed = pack(read_folder(local_folder(self.pushed.folder)), self.settings.dtype)
            self.pushed = Pushed(ray.put(packed), self.pushed.version, fingerprint(packed))
        return self.actors[index].load.remote(self.pushed.reference, self.pushed.version, self.pushed.fingerprint)

    def _shared(self, requests: Sequence[Any], version: str, call: Callable[[Any, list[Any]], Any]) -> list[Any]:
        """What the engines answer to a share of the requests each, in the requests' order.

        Args:
            call: asks an engine's actor a share, and returns the reference of its answers, one per request.
        """
        if self.pushed is None or self.pushed.version != version:
            raise StaleWeights(self.pushed.version if self.pushed else UNLOADED, version)
        # Contiguous shares, so that prompts of one task, alike in length, stay together.
        bounds = [len(requests) * i // len(self.actors) for i in range(len(self.actors) + 1)]
        shares = [list(requests[a:b]) for a, b in pairwise(bounds)]
        busy = [i for i, share in enumerate(shares) if share]
        found = self._everywhere(lambda index: call(self.actors[index], shares[index]), busy)
        return [answer for part in found for answer in part]

    def _everywhere(self, call: Callable[[int], Any], indices: Sequence[int] | None = None) -> list[Any]:
        """Results of a remote call on several engines at once, repeated on those that die."""
        chosen = range(len(self.actors)) if indices is None else indices
        running = {index: call(index) for index in chosen}
        return [self._result(index, reference, call) for index, reference in running.items()]

    def _result(self, index: int, reference: Any, call: Callable[[int], Any]) -> Any:
        import ray
        from ray.exceptions import RayActorError, RayTaskError

        while True:
            try:
                return ray.get(reference)
            except RayTaskError as error:  # the engine is alive and objects
                cause = error.cause
                if isinstance(cause, StaleWeights) and cause.held == UNLOADED:
                    logger.warning("engine %d died and came back between two calls", index)
                elif isinstance(cause, StaleWeights | ValueError):
                    raise cause from None
                else:
                    raise
            except RayActorError as error:
                logger.warning("engine %d died (%s); waiting for its restart", index, type(error).__name__)
            self._revive(index)
            reference = call(index)

    def _revive(self, index: int) -> None:
        """Wait for a restarted engine and give it our weights. EngineLost if it doesn't come back."""
        import ray
        from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError

        started = time.perf_counter()
        self.stats.restarts += 1
        while True:
            try:
                ray.get(self.actors[index].info.remote(), timeout=RESTART_TIMEOUT)
                if self.pushed is not None:
                    ray.get(self._load(index), timeout=RESTART_TIMEOUT)
                break
            except ActorDiedError as error:
                raise EngineLost(
                    f"rollout engine {index} is gone for good: it died more than {MAX_RESTARTS} times or could not be "
                    f"started again ({_first_line(error)}); out of memory is the usual reason"
                ) from None
            except ActorUnavailableError:
                time.sleep(_POLL_SECONDS)
            except GetTimeoutError:
                raise EngineLost(
                    f"rollout engine {index} died and was not back after {RESTART_TIMEOUT:.0f} s"
                ) from None
        logger.warning("engine %d is back after %.1f s", index, time.perf_counter() - started)

    def _wait_until_ready(self, wanted: dict[str, float], timeout: float) -> None:
        import ray
        from ray.exceptions import GetTimeoutError, RayActorError

        try:
            ray.get([actor.info.remote() for actor in self.actors], timeout=timeout)
        except GetTimeoutError:
            raise ValueError(
                f"the rollout engines were not ready after {timeout:.0f} s; they need {_amounts(wanted)} in all and "
                f"the cluster has {_amounts(ray.available_resources())} free of {_amounts(ray.cluster_resources())}"
            ) from None
        except RayActorError as error:
            raise ValueError(f"the {self.engine} rollout engine did not start: {_cause(error)}") from None
        check_same_code(self.actors, "a rollout engine")

    def _count(self, answers: Sequence[Sequence[Completion]], seconds: float) -> None:
        self.stats.calls += 1
        self.stats.generate_seconds += seconds
        self.stats.completions += sum(len(answer) for answer in answers)
        self.stats.tokens += sum(len(completion.token_ids) for answer in answers for completion in answer)


class EngineActor:
    """The engine of one actor process. A thin shell: Ray needs a class whose module is cheap to import."""

    def __init__(self, kind: EngineName, settings: EngineSettings) -> None:
        enter_working_folder()
        self.engine = build_engine(kind, settings)

    def load(self, tensors: Any, version: str, mark: str) -> float:
        """See `Engine.load`."""
        return self.engine.load(tensors, version, mark)

    def generate(
        self, requests: Sequence[GenerationRequest], params: SamplingParams, version: str
    ) -> list[list[Completion]]:
        """See `Engine.generate`."""
        return self.engine.generate(requests, params, version)

    def loglikelihood(self, requests: Sequence[ScoringRequest], version: str) -> list[list[float]]:
        """See `Engine.loglikelihood`."""
        return self.engine.loglikelihood(requests, version)

    def info(self) -> dict[str, Any]:
        """See `Engine.info`."""
        return self.engine.info()


def _check_resources(wanted: dict[str, float], engines: int) -> None:
    """Whether the cluster could hold the engines if it were empty. ValueError if not."""
    import ray

    total = ray.cluster_resources()
    short = [name for name, amount in wanted.items() if amount > total.get(name, 0.0)]
    if short:
        raise ValueError(
            f"{engines} rollout engines need {_amounts(wanted)}, the cluster has {_amounts(total)}; "
            "lower rollout.engines or resources.engine_gpus"
        )


def _amounts(resources: dict[str, float]) -> str:
    return " and ".join(f"{resources.get(name, 0.0):g} {name}" for name in ("CPU", "GPU"))


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _cause(error: BaseException) -> str:
    """The last line of a remote traceback: the error itself."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
