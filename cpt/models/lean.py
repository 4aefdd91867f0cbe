"""The training stack without the packages that it imports where it finds them and that training makes no use of."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager

# By what imports it. scikit-learn (for assisted generation) and scipy (for other losses; in vllm, for sound) are two of
# the seven seconds it takes to load a model; vllm takes five (engines have processes of their own).
UNUSED = {"transformers": ("sklearn", "scipy"), "trl": ("vllm",)}


@contextmanager
def lean_imports(*packages: str) -> Iterator[None]:
    """Whatever is imported inside doesn't find what is unused of `packages`; afterwards it is there as before."""
    hidden = hideable(packages, sys.modules)
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: "not there" to every import
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def hideable(packages: Iterable[str], loaded: Container[str]) -> list[str]:
    """What to hide while `packages` are imported into a process that has `loaded` these modules.

    Nothing from a package that is loaded: it may have looked already, and would count on what it found.
    """
    return [
        name
        for package in packages
        if package not in loaded
        for name in UNUSED[package]
        if name not in loaded and importlib.util.find_spec(name)
    ]
