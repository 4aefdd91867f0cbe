"""What tests that really train share: models, an engine in this process, and a reward that random weights can earn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from stages import EasilyRewarded, random_model, replace_tasks

from cpt.models.locate import locate_model
from cpt.rollout.engine import EngineSettings
from cpt.rollout.local import LocalPool, build_engine
from cpt.run.worker import import_trainers


@pytest.fixture(scope="session")
def trainers() -> Iterator[None]:
    """TRL, imported as training processes import it.

    transformers writes out every configuration that it reads, for a line of its log that nobody sees: a fifth of the
    time of a stage as small as these.
    """
    import_trainers()
    from transformers import PreTrainedConfig

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PreTrainedConfig, "__repr__", object.__repr__)
        yield


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A Ray cluster for actors of the tests; runs start their own."""
    from cpt.run.cluster import cluster

    with cluster(None):
        yield


@pytest.fixture(scope="session")
def base(trainers: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in architecture with random weights. No test writes into it."""
    return random_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def shipped() -> Path:
    """The built-in model with the weights it is shipped with."""
    found = locate_model("builtin/tiny-qwen2_5-vl")
    assert isinstance(found, Path)
    return found


@pytest.fixture(scope="module")
def pool(base: Path) -> LocalPool:
    """An engine for `base`, also where a module has a `base` of its own."""
    return LocalPool(build_engine("hf", EngineSettings(str(base))))


@pytest.fixture(scope="module")
def uncompared() -> Iterator[None]:
    """No comparison of engine and trainer after a stage: its pushes and prompts would count as the stage's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cpt.rollout.agreement.check_folder", lambda *args, **kwargs: None)
        yield


@pytest.fixture(scope="module")
def easily_rewarded() -> Iterator[None]:
    """Every task pays for completions of some lengths, see `EasilyRewarded`."""
    with pytest.MonkeyPatch.context() as patch:
        replace_tasks(patch, EasilyRewarded)
        yield
