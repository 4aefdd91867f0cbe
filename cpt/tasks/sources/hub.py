"""Rows of a data set on the Hugging Face Hub, at one commit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cpt.tasks.sources.arrow import ArrowRows
from cpt.tasks.sources.folders import Splits
from cpt.tasks.sources.prepared import first_line, quiet, reason

if TYPE_CHECKING:
    import datasets

_ID = re.compile(r"[\w.-]+/[\w.-]+")


_may_fetch = ContextVar("_may_fetch", default=True)


@contextmanager
def without_network() -> Iterator[None]:
    """Within it, data that are not in the cache are not to be had: a ValueError says so."""
    before = _may_fetch.set(False)
    try:
        yield
    finally:
        _may_fetch.reset(before)


def hub_splits(name: str, config: str | None, revision: str) -> Splits:
    """The splits of a data set; from the cache without a look at the network where that commit is there.

    Args:
        name: its id.
        revision: the full id of a commit.

    Raises:
        ValueError: there is no such id, commit or configuration, or it can't be reached; one line with the remedy.
    """
    if not _ID.fullmatch(name):
        raise ValueError(f"data.hub: {name!r} is no id of a data set; write owner/name, as its page on the Hub has it")
    found = _cached(name, config, revision) or _fetched(name, config, revision)
    return {split: partial(ArrowRows, rows, [(f"{name}, {split}", len(rows))]) for split, rows in found.items()}


def _cached(name: str, config: str | None, revision: str) -> Mapping[str, datasets.Dataset] | None:
    """What an earlier run has prepared. `datasets` itself takes any commit from its cache when there is no network."""
    import datasets
    from datasets.naming import camelcase_to_snakecase
    from datasets.packaged_modules.cache.cache import Cache

    owner, _, short = name.rpartition("/")
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "___".join(filter(None, (owner, camelcase_to_snakecase(short))))
    found = [info.parent for info in folder.glob(f"*/*/{revision}/dataset_info.json")]
    found = [place for place in found if config in (None, place.parts[-3])]
    if len(found) != 1:
        return None  # never fetched, or several configurations, of which the Hub knows the usual one
    place = found[0]
    builder = Cache(
        repo_id=name, dataset_name=short, config_name=place.parts[-3], version=place.parts[-2], hash=revision
    )
    prepared: Mapping[str, datasets.Dataset] = builder.as_dataset(in_memory=False)
    return prepared


def _fetched(name: str, config: str | None, revision: str) -> Mapping[str, datasets.Dataset]:
    import datasets
    import httpx

    at = f"{name}, revision {revision[:12]}"
    if not _may_fetch.get():
        raise ValueError(f"{at}: these data are not in the cache")
    try:
        # The prefix: a folder of this name beside the recipe is not meant.
        with quiet():
            builder = datasets.load_dataset_builder(f"hf://datasets/{name}", config, revision=revision)
            if builder.hash != revision:
                raise ConnectionError(f"only another revision is in the cache ({str(builder.hash)[:12]})")
            builder.download_and_prepare()
        prepared: Mapping[str, datasets.Dataset] = builder.as_dataset(in_memory=False)
        return prepared
    except datasets.exceptions.DatasetNotFoundError as error:
        raise ValueError(_not_found(name, revision, first_line(error))) from error
    except (ConnectionError, httpx.TransportError) as error:
        raise ValueError(
            f"{at}: the Hub can't be reached, and these data are not in the cache ({first_line(error)}); run it once "
            "with network (and without HF_HUB_OFFLINE), or copy HF_HOME from a machine that has them"
        ) from error
    except ValueError as error:
        if config is None and "Config name is missing" in str(error):
            raise ValueError(f"{at}: write data.config, {_after(str(error), 'configs: ')}") from error
        if config is not None and "not found. Available" in str(error):
            raise ValueError(f"{at}: no configuration {config!r}; {_after(str(error), 'Available: ')}") from error
        raise ValueError(f"{at}: {first_line(error)}") from error
    except RuntimeError as error:  # a loading script: code from outside, which datasets 5 does not run
        raise ValueError(f"{at}: {first_line(error)}; load it elsewhere and save_to_disk it") from error
    except (datasets.exceptions.DatasetsError, OSError) as error:
        raise ValueError(f"{at}: {reason(error)}") from error


def _not_found(name: str, revision: str, told: str) -> str:
    if "gated" in told:
        return (
            f"{name} is gated: accept its terms on its page on the Hub, then log in on this machine (hf auth login, or "
            "HF_TOKEN)"
        )
    if told.startswith("Revision"):
        return f"{name} has no revision {revision}: copy a commit's full id from its history on the Hub"
    return f"{name}: no data set of this id is on the Hub, or it is private (then: hf auth login); is it spelt right?"


def _after(text: str, mark: str) -> str:
    """The list that a message of the library ends with."""
    return "one of " + text.partition(mark)[2].partition("\n")[0].strip("[]").replace("'", "")
