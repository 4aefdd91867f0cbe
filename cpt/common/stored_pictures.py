"""Pictures that stay where they are stored until somebody looks at them.

A task over files has more pictures than memory. Its samples hold `StoredPictures`: a sequence that reads, decodes and
prepares a picture each time it is looked at.
"""

from __future__ import annotations

import hashlib
import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, overload

from PIL import Image

from cpt.common.pictures import check_header, prepared, unreadable

_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
_JPEG_END = b"\xff\xd9"
_MIDDLE = (122, 116, 104)  # the mean of CLIP's training pictures, which LLaVA pads with
_MOST = 1 << 30
"""Bytes of a picture's file: more than the largest picture that PIL opens has in RGB, not compressed at all."""
_TAIL = 64  # bytes of padding that some cameras write after a JPEG's end
_PNG_TAGS = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")  # without any of them a PNG has no orientation
_COARSE = 128  # pixels that a side of a coarse picture has at least, where the whole one has as many


class StoredPicture(ABC):
    """Where one picture is. Hashable and picklable.

    Attributes:
        name: what messages call it: its file, or the row and column that hold it.
    """

    name: str

    @abstractmethod
    def read(self) -> bytes:
        """The file's bytes. OSError if there is none."""

    @property
    def key(self) -> str:
        """Tells whether two rows show the same picture, without decoding it."""
        return self.key_of(self.read())

    def key_of(self, content: bytes) -> str:
        """`key` of a picture that has been read."""
        return hashlib.blake2b(content, digest_size=16).hexdigest()


@dataclass(frozen=True)
class PictureFile(StoredPicture):
    """A picture in a file of its own."""

    path: Path

    @property
    def name(self) -> str:  # type: ignore[override]
        """The path."""
        return str(self.path)

    def read(self) -> bytes:
        """See `StoredPicture.read`."""
        if (size := self.path.stat().st_size) > _MOST:
            raise OSError(f"its file has {size} bytes, and may have {_MOST} at most")
        return self.path.read_bytes()


@dataclass(frozen=True)
class SquarePicture(StoredPicture):
    """Another picture in the middle of a square, as LLaVA pads them: boxes may be measured on that (CoIN)."""

    inner: StoredPicture

    @property
    def name(self) -> str:  # type: ignore[override]
        """The other picture's."""
        return self.inner.name

    def read(self) -> bytes:
        """A file of the padded picture. OSError if there is no picture, ValueError if it can't be used."""
        content = self.inner.read()
        try:
            opened = Image.open(io.BytesIO(content))
        except Exception as error:  # decoders meet damaged headers with exceptions of many kinds
            raise ValueError(unreadable(error, self.name)) from error
        with opened as found:
            shown = prepared(found, self.name)
        side = max(shown.size)
        if 3 * side * side > _MOST:
            raise ValueError(
                f"{self.name} has {shown.width} × {shown.height} pixels, too many when padded to a square; crop it, or "
                "leave the sample out"
            )
        square = Image.new("RGB", (side, side), _MIDDLE)
        square.paste(shown, ((side - shown.width) // 2, (side - shown.height) // 2))
        padded = io.BytesIO()
        square.save(padded, "PPM")  # nothing is lost, and no time
        return padded.getvalue()

    @property
    def key(self) -> str:
        """See `StoredPicture.key`."""
        return self.inner.key

    def key_of(self, content: bytes) -> str:
        """See `StoredPicture.key_of`."""
        return self.key


class Glance(NamedTuple):
    """What a rough look at a picture tells.

    Attributes:
        key: `StoredPicture.key`.
        size: (width, height) as it is shown.
        picture: as `prepared` has it, but perhaps grey and smaller.
    """

    key: str
    size: tuple[int, int]
    picture: Image.Image


class StoredPictures(Sequence[Image.Image]):
    """The pictures of one sample, read when they are looked at and never kept.

    Args:
        owner: whose they are, for messages, such as "sample photos/train/7".
    """

    def __init__(self, stored: Sequence[StoredPicture], owner: str) -> None:
        self.stored, self.owner = tuple(stored), owner

    def __len__(self) -> int:
        return len(self.stored)

    @overload
    def __getitem__(self, number: int) -> Image.Image: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Image.Image]: ...
    def __getitem__(self, number: int | slice) -> Image.Image | Sequence[Image.Image]:
        """The picture as `cpt.common.pictures.prepared` has it. ValueError if it can't be used."""
        if isinstance(number, slice):
            return tuple(self[i] for i in range(*number.indices(len(self))))
        with self._opened(number) as found:
            return prepared(found, self._named(number))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoredPictures) and self.stored == other.stored

    def __hash__(self) -> int:
        return hash(self.stored)

    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(width, height) of each as it is shown, from its header alone, after the checks that need no decoding.

        Raises:
            ValueError: one is missing, no picture, cut off, or refused by `prepared`; the message names it.
        """
        return tuple(self._size(number) for number in range(len(self)))

    def glance(self, number: int) -> Glance:
        """A picture for a rough look, read once. ValueError if it can't be used, as `self[number]` says it.

        A JPEG is decoded to a fraction of its sides, and in grey: all of its data is gone through, at half the price.
        """
        content = self._read(number)
        with self._opened(number, content) as found:
            size = found.size
            found.draft("L", (_COARSE, _COARSE))
            try:
                picture = prepared(found, self._named(number))
            except ValueError:
                picture = self[number]  # says it of the whole picture
            return Glance(self.stored[number].key_of(content), size[::-1] if _is_turned(found) else size, picture)

    def digest(self) -> bytes:
        """Of the bytes of all, as they are stored."""
        found = hashlib.blake2b(digest_size=16)
        for number in range(len(self)):
            content = self._read(number)
            found.update(len(content).to_bytes(8, "big") + content)
        return found.digest()

    def _size(self, number: int) -> tuple[int, int]:
        content = self._read(number)
        with self._opened(number, content) as found:
            check_header(found, self._named(number))
            try:
                _check_whole(found, content)
                turned = (found.format != "PNG" or _tagged(content)) and _is_turned(found)
            except Exception as error:  # decoders meet damaged data with exceptions of many kinds
                raise ValueError(f"{self._named(number)}: {unreadable(error, self._file(number))}") from error
            return found.size[::-1] if turned else found.size

    def _opened(self, number: int, content: bytes | None = None) -> Image.Image:
        content = self._read(number) if content is None else content
        try:
            return Image.open(io.BytesIO(content))
        except Exception as error:  # decoders meet damaged headers with exceptions of many kinds
            raise ValueError(f"{self._named(number)}: {unreadable(error, self._file(number))}") from error

    def _read(self, number: int) -> bytes:
        try:
            return self.stored[number].read()
        except OSError as error:
            raise ValueError(f"{self._named(number)}: {unreadable(error, self._file(number))}") from error
        except ValueError as error:  # of a `SquarePicture`
            raise ValueError(f"{self._named(number)}: {error}") from error

    def _file(self, number: int) -> str:
        return self.stored[number].name

    def _named(self, number: int) -> str:
        return f"{self.owner}: picture {number + 1}" if len(self) > 1 else f"{self.owner}: the picture"


def _check_whole(picture: Image.Image, content: bytes) -> None:
    """What shows without decoding that a file is damaged: a JPEG's end, a PNG's checksums."""
    if picture.format == "JPEG" and _JPEG_END not in content[-_TAIL:]:
        raise OSError("it is cut off")
    if picture.format == "PNG":
        with Image.open(io.BytesIO(content)) as again:  # `verify` leaves it unusable
            again.verify()


def _is_turned(picture: Image.Image) -> bool:
    return picture.getexif().get(_ORIENTATION) in _TURNED


def _tagged(png: bytes) -> bool:
    """Whether a PNG may have tags. They may come after its pixels, so that asking PIL for them decodes it."""
    return any(mark in png for mark in _PNG_TAGS)


def sizes_of(images: Sequence[Image.Image]) -> tuple[tuple[int, int], ...]:
    """(width, height) of each picture; of one that is still stored, from its header (`StoredPictures.sizes`)."""
    return images.sizes() if isinstance(images, StoredPictures) else tuple(picture.size for picture in images)
