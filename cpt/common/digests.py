"""What a file holds, in 32 hexadecimal digits (BLAKE2b): so that a changed byte is noticed wherever it matters.

Reading a model of many gigabytes again takes minutes. `known_digest` reads a file once and remembers, in a cache folder
of this user, what it held when it had this path, size and times; `file_digest` always reads.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict

_CHUNK = 1 << 20
_SETTLED = 2.0  # seconds: a file that was changed just now may be changed again without another time


class Digest(TypedDict):
    """One file: its size in bytes and the digest of all of them."""

    bytes: int
    blake2b: str


def bytes_digest(content: bytes) -> str:
    """Of bytes in memory."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def file_digest(path: Path, nbytes: int | None = None) -> Digest:
    """Of a file, or of its first `nbytes` bytes, which may be fewer than asked for."""
    found, left = hashlib.blake2b(digest_size=16), float("inf") if nbytes is None else nbytes
    size = 0
    with open_regular(path) as handle:
        while left > 0 and (chunk := handle.read(int(min(_CHUNK, left)))):
            found.update(chunk)
            size += len(chunk)
            left -= len(chunk)
    return {"bytes": size, "blake2b": found.hexdigest()}


def open_regular(path: Path) -> Any:
    """The file, to read its bytes. ValueError for what would hang or can't be read: a pipe, a device, no permission."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ValueError(f"{path}: can't be read ({error.strerror})") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{path}: not a regular file")
    return os.fdopen(descriptor, "rb")


def known_digest(path: Path) -> str:
    """`file_digest`, read only if the file is not the one that this user's cache knows by path, size and times."""
    with open_regular(path) as handle:
        state = os.fstat(handle.fileno())
    identity = [str(path.resolve()), state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]
    place = _place(identity)
    if place is not None and (kept := _read(place, identity)):
        return kept
    digest = file_digest(path)["blake2b"]
    if place is not None and time.time() - max(state.st_mtime, state.st_ctime) > _SETTLED:
        _write(place, identity, digest)
    return digest


def cache_folder() -> Path | None:
    """`$XDG_CACHE_HOME/cpt/digests`, by default below `~/.cache`; None where there is no home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # which the specification says to ignore
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "cpt" / "digests" if os.path.isabs(base) else None


def _place(identity: list[Any]) -> Path | None:
    folder = cache_folder()
    return None if folder is None else folder / f"{bytes_digest(os.fsencode(identity[0]))}.json"


def _seal(identity: list[Any], digest: str) -> str:
    return bytes_digest(json.dumps([identity, digest]).encode())


def _read(place: Path, identity: list[Any]) -> str | None:
    """The digest that is kept for this state of the file; None if there is none, or the cache itself is damaged."""
    try:
        kept = json.loads(place.read_bytes())
        digest, seal = kept["digest"], kept["seal"]
    except (OSError, ValueError, RecursionError, TypeError, KeyError):
        return None  # a cache: the file itself is read instead
    return str(digest) if seal == _seal(identity, digest) else None


def _write(place: Path, identity: list[Any], digest: str) -> None:
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        temporary.write_text(json.dumps({"path": identity[0], "digest": digest, "seal": _seal(identity, digest)}))
        os.replace(temporary, place)
    except OSError:
        return  # a full disk or a home that can't be written: the file is read again next time


def listing(root: Path, files: Iterable[Path]) -> dict[str, Digest]:
    """Every one of these files below `root` by its relative path, sorted."""
    return {path.relative_to(root).as_posix(): file_digest(path) for path in sorted(files)}


def differing(root: Path, listed: Mapping[str, Digest], *, cached: bool = False) -> str | None:
    """The first listed file that is not there, or does not hold what it held, in words; None if all do.

    Args:
        cached: believe this user's cache of digests (`known_digest`), for files of many gigabytes.
    """
    for name, digest in listed.items():
        path = root / name
        if not path.is_file():
            return f"{path} is missing"
        if path.stat().st_size != digest["bytes"]:
            return f"{path} is not what the run wrote: {path.stat().st_size} bytes, not {digest['bytes']}"
        found = known_digest(path) if cached else file_digest(path)["blake2b"]
        if found != digest["blake2b"]:
            return f"{path} is not what the run wrote: its bytes have another digest"
    return None
