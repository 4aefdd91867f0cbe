"""Digests of files, and the cache that spares a large one from being read twice."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from cpt.common import digests
from cpt.common.digests import cache_folder, differing, file_digest, known_digest, listing


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "cpt" / "digests"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(b"x" * 3_000_000)
    return settled(path)


def settled(path: Path) -> Path:
    """As if it had been written a minute ago, as far as a test can say so: ctime is the kernel's."""
    minute_ago = time.time() - 60
    os.utime(path, (minute_ago, minute_ago))
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read whole."""
    found: list[Path] = []
    real = digests.file_digest

    def counted(path: Path, nbytes: int | None = None) -> digests.Digest:
        found.append(path)
        return real(path, nbytes)

    monkeypatch.setattr(digests, "file_digest", counted)
    monkeypatch.setattr(digests, "_SETTLED", -1.0)
    return found


def test_a_digest_is_blake2b_of_all_bytes_or_of_the_first(file: Path) -> None:
    assert file_digest(file) == {
        "bytes": 3_000_000,
        "blake2b": hashlib.blake2b(b"x" * 3_000_000, digest_size=16).hexdigest(),
    }
    assert file_digest(file, 5) == {"bytes": 5, "blake2b": hashlib.blake2b(b"xxxxx", digest_size=16).hexdigest()}
    assert file_digest(file, 4_000_000) == file_digest(file)


def test_a_known_file_is_read_once_and_a_changed_one_again(file: Path, reads: list[Path], cache: Path) -> None:
    first = known_digest(file)
    assert known_digest(file) == first
    assert len(reads) == 1
    assert len(list(cache.iterdir())) == 1
    file.write_bytes(b"x" * 2_999_999 + b"y")
    assert known_digest(settled(file)) == file_digest(file)["blake2b"] != first
    assert len(reads) == 2


def test_a_file_of_just_now_is_not_remembered(file: Path, cache: Path) -> None:
    known_digest(file)  # its ctime is of just now
    assert not cache.exists()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"digest": "00", "seal": "11"}', b"\xff"])
def test_a_damaged_cache_is_not_believed(file: Path, reads: list[Path], cache: Path, content: bytes) -> None:
    first = known_digest(file)
    (kept,) = cache.iterdir()
    kept.write_bytes(content)
    assert known_digest(file) == first
    assert len(reads) == 2


def test_a_cache_that_cannot_be_written_is_done_without(file: Path, reads: list[Path], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in its place")
    assert known_digest(file) == known_digest(file)
    assert len(reads) == 2


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / ".cache" / "cpt" / "digests"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / ".cache" / "cpt" / "digests"
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # nobody's home is known
    assert cache_folder() is None


def test_what_is_no_file_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(ValueError, match="not a regular file"):
            file_digest(path)
    with pytest.raises(ValueError, match=r"absent: can't be read"):
        file_digest(tmp_path / "absent")


def test_the_first_file_that_differs_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    files = [tmp_path / "a" / "one", tmp_path / "two"]
    for path in files:
        path.write_text("content")
    listed = json.loads(json.dumps(listing(tmp_path, files)))
    assert list(listed) == ["a/one", "two"]
    assert differing(tmp_path, listed) is None
    files[1].write_text("Content")
    assert differing(tmp_path, listed) == f"{files[1]} is not what the run wrote: its bytes have another digest"
    files[0].write_text("longer content")
    assert differing(tmp_path, listed) == f"{files[0]} is not what the run wrote: 14 bytes, not 7"
    files[0].unlink()
    assert differing(tmp_path, listed) == f"{files[0]} is missing"
