"""Files that survive a kill: whole or absent, never half written. JSON, JSON lines and parquet records.

What is read is what was written, or the reader says which file is not: JSON has a seal, every JSON line a sum of its
own, and a parquet file's digest is kept by who wrote it.
"""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from cpt.common.digests import bytes_digest, open_regular
from cpt.common.errors import RunFailed

if TYPE_CHECKING:
    from pydantic import BaseModel

SEAL, SUM = "seal", "sum"
AGAIN = "delete the file and run the same command again"
_FULL = 1 << 20  # bytes left of a disk on which a file that did not fit still lies


def expanded(path: str) -> Path:
    """A path whose `~` is written out. ValueError if it names a user that there is not."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path}: there is no such user, whose folder ~ would be") from error


def fsync_dir(folder: Path) -> None:
    """Make a rename inside `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that replaces it if the block ends without an exception, else is removed.

    Raises:
        RunFailed: the disk is full, or the folder can't be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)  # never through a link that somebody has put there
        try:
            yield temporary
            with temporary.open("rb") as handle:
                os.fsync(handle.fileno())
            os.replace(temporary, path)
            fsync_dir(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise RunFailed(unwritable(path, error)) from error


@contextmanager
def disk_may_be_full(path: Path) -> Iterator[None]:
    """Around a library that writes to `path` and has words of its own for a full disk.

    Raises:
        RunFailed: it failed, and the disk is full.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, RunFailed) or shutil.disk_usage(path.parent).free > _FULL:
            raise
        raise RunFailed(unwritable(path, OSError(errno.ENOSPC, ""))) from error


def unwritable(path: Path, error: OSError) -> str:
    """What to tell of a file that could not be written."""
    reason = os.strerror(error.errno) if error.errno else str(error).partition("\n")[0]
    return f"{path}: can't be written ({reason}); make room or see to its permissions, and run the same command again"


def write_text_atomic(path: Path, text: str) -> None:
    """Write UTF-8 text; a reader sees the old file or the new one."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json_atomic(path: Path, value: Mapping[str, Any], *, sealed: bool = False) -> None:
    """Write indented JSON; NaN and infinities become null, because strict readers refuse them.

    Args:
        sealed: add a digest of all the rest under `seal`, by which `read_json` notices a changed value.
    """
    content = _finite(value)
    if sealed:
        content = {name: item for name, item in content.items() if name != SEAL}
        content[SEAL] = _seal(content)
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_text_atomic(path, text + "\n")


def read_json(
    path: Path, shape: type[BaseModel] | None = None, *, sealed: bool = False, advice: str = AGAIN
) -> dict[str, Any]:
    """The JSON object in a file: every file of ours is read here.

    Args:
        shape: what it must hold at least (see `cpt.store.schemas`).
        sealed: it must have been written with a seal. One that has a seal must agree with it in any case.
        advice: what to do about a damaged file.

    Raises:
        ValueError: the file is missing, unreadable, damaged, of another shape or not what was written; it is named.
    """
    if not path.exists():
        raise ValueError(f"{path} is missing")
    with open_regular(path) as handle:
        text = handle.read()
    try:
        found = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # cut off, not text at all, nested too deep, a number too long
        raise ValueError(f"{path}: damaged JSON ({str(error) or type(error).__name__}); {advice}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: not what cpt writes: {_kind(found)} instead of a JSON object; {advice}")
    seal = found.pop(SEAL, None)
    if shape is not None and (problem := _misshapen(found, shape)):
        raise ValueError(f"{path}: not what cpt writes: {problem}; {advice}")
    if (sealed or seal is not None) and seal != _seal(found):
        problem = "its seal is missing" if seal is None else "a value is another than its seal says"
        raise ValueError(f"{path}: not what the run wrote: {problem}; {advice}")
    return found


def _misshapen(found: dict[str, Any], shape: type[BaseModel]) -> str:
    """What of it is missing or of another type; empty if nothing."""
    try:
        shape.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        return f"{where}: {first['msg'][:1].lower()}{first['msg'][1:]}"
    return ""


def _seal(content: Mapping[str, Any]) -> str:
    return bytes_digest(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())


def _kind(value: Any) -> str:
    kinds: dict[type, str] = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return kinds.get(type(value), "null")


def append_jsonl(path: Path, row: Mapping[str, Any]) -> None:
    """Append one line, with a digest of the rest under `sum`. What a kill left of a line before is cut off.

    Raises:
        RunFailed: the disk is full, or the file can't be written.
    """
    line = jsonl_line(row).encode("utf-8")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "rb+") as handle:
            if handle.seek(0, os.SEEK_END) > 0:
                handle.seek(-1, os.SEEK_END)
                if handle.read(1) != b"\n":
                    handle.seek(0)
                    handle.truncate(handle.read().rfind(b"\n") + 1)
                    handle.seek(0, os.SEEK_END)
            handle.write(line)
    except OSError as error:
        raise RunFailed(unwritable(path, error)) from error


def jsonl_line(row: Mapping[str, Any]) -> str:
    """A row as one line with its sum; NaN and infinities become null."""
    content = {name: value for name, value in _finite(dict(row)).items() if name != SUM}
    return json.dumps(content | {SUM: _sum(content)}, ensure_ascii=False, allow_nan=False) + "\n"


def read_jsonl(path: Path, *, sealed: bool = True, advice: str = AGAIN) -> list[dict[str, Any]]:
    """All rows of a file, in order; [] if there is no file. A last line that a kill cut off is left out.

    Args:
        sealed: every row must have its sum. A row that has one must agree with it in any case.
        advice: what to do about a damaged file.

    Raises:
        ValueError: a line is damaged or not what was written; file and line are named.
    """
    if not os.path.lexists(path):
        return []
    with open_regular(path) as handle:
        content = handle.read()
    # Not splitlines(), for which some characters that JSON leaves as they are end a line.
    *lines, rest = content.split(b"\n")
    rows = [_row(line, sealed) for line in lines]
    wrong = next((number for number, row in enumerate(rows, start=1) if row is None), None)
    if wrong is None and not _is_cut_off(rest):
        wrong = len(rows) + 1
    if wrong is not None:
        raise ValueError(f"{path}, line {wrong}: not what the run wrote; {advice}")
    return [row for row in rows if row is not None]


def whole_lines(path: Path) -> int:
    """Bytes to the end of the last whole line: what a kill left after them is cut off by the next `append_jsonl`."""
    with open_regular(path) as handle:
        content: bytes = handle.read()
    return content.rfind(b"\n") + 1


def _is_cut_off(rest: bytes) -> bool:
    """Whether a kill or a power cut may have left this of a line: its beginning, perhaps with zeros after it."""
    text = rest.rstrip(b"\0")
    if not text or _row(text, sealed=True) is not None:  # nothing, or all but the end of the line
        return True
    return text.startswith(b'{"'[: len(text)]) and not _begins_with_json(text)


def parse_line(line: bytes) -> dict[str, Any] | None:
    """The row of `jsonl_line` without its sum; None for anything else."""
    return _row(line, sealed=True)


def _row(line: bytes, sealed: bool) -> dict[str, Any] | None:
    """The row in a line, without its sum; None for a line that is none, or another than was written."""
    try:
        row = json.loads(line.decode("utf-8"))
        if not isinstance(row, dict):
            return None
        found = row.pop(SUM, None)
        return None if (sealed or found is not None) and found != _sum(row) else row
    except (ValueError, RecursionError):
        return None


def _begins_with_json(text: bytes) -> bool:
    """Whether a whole value stands at the beginning, of which a cut could have left a part only."""
    try:
        json.JSONDecoder().raw_decode(text.decode("utf-8", errors="replace"))
    except (ValueError, RecursionError):
        return False
    return True


def _sum(row: Mapping[str, Any]) -> str:
    return bytes_digest(json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass"))[:8]


def _finite(value: Any) -> Any:
    """`value` with every NaN or infinite float replaced by None, numpy scalars by Python ones, paths by text."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
