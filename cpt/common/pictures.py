"""A picture as engines and trainers are to see it: upright, opaque, RGB, without tags.

Inference engines and image processors disagree on anything else: vLLM turns a picture by its EXIF orientation and puts
transparency on white, transformers does neither. `cpt.types.Sample` calls this for all its pictures, so that
there is nothing left for them to disagree on.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

# Up to twice as many pixels are read; with more PIL refuses a picture before it takes any memory.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

MIN_SIDE = 4
"""Pixels. Image processors take a side of 1 or 3 for the colour channels, and then read other pixels."""

_CONVERTED = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_REFUSED = {
    "I": "32-bit integers, whose range nobody states",
    "F": "floating-point numbers, whose range nobody states",
}
_WHITE = (255, 255, 255)


def prepared_pictures(pictures: Sequence[Any], owner: str) -> tuple[Image.Image, ...]:
    """Every picture as `prepared` has it.

    Args:
        owner: whose they are, for messages, such as "sample photos/train/7".

    Raises:
        ValueError: one can't be used; the message names owner, picture and remedy.
    """
    return tuple(
        prepared(picture, f"{owner}: picture {number}" if len(pictures) > 1 else f"{owner}: the picture")
        for number, picture in enumerate(pictures, start=1)
    )


def open_picture(path: str | Path, owner: str) -> Image.Image:
    """The picture in a file, as `prepared` has it. ValueError if there is none or it is damaged: names owner, file."""
    try:
        found = Image.open(path)
    except Exception as error:  # decoders meet damaged headers with exceptions of many kinds
        raise ValueError(f"{owner}: {unreadable(error, str(path))}") from error
    with found:
        return prepared(found, f"{owner}: the picture")


def prepared(picture: Any, name: str) -> Image.Image:
    """The picture turned by its EXIF orientation, composited on white, in RGB, with no tag left.

    An RGB picture in memory without any tag is returned itself. 16-bit greys are scaled from 0 … 65,535; colour
    profiles are not applied, as no engine or image processor applies them. Of an animation it is the current frame.

    Args:
        picture: PIL's.
        name: what to call it in a message.

    Raises:
        ValueError: it is no PIL picture, its data is damaged, a side is shorter than `MIN_SIDE`, or its mode has no
            defined range of values.
    """
    check_header(picture, name)
    size = f"{picture.width} × {picture.height}"
    try:
        if type(picture) is Image.Image and picture.mode == "RGB" and not picture.info and not picture.getexif():
            return picture
        return _converted(picture)
    except Exception as error:  # decoders meet damaged data with exceptions of many kinds
        raise ValueError(f"{name} ({size}): {unreadable(error, getattr(picture, 'filename', ''))}") from error


def check_header(picture: Any, name: str) -> None:
    """What `prepared` refuses without decoding: no picture, too small, a mode without a defined range. ValueError."""
    if not isinstance(picture, Image.Image):
        kind = type(picture).__name__
        raise ValueError(f"{name} is no PIL picture but a {kind}; give PIL.Image.fromarray(…) or PIL.Image.open(…)")
    if picture.format == "EPS":  # a program in PostScript, which PIL would let Ghostscript execute
        raise ValueError(f"{name} is an EPS file, which is a program and is not executed; convert it to PNG")
    if min(picture.size) < MIN_SIDE:
        raise ValueError(
            f"{name} is {picture.width} × {picture.height} pixels, with a side below {MIN_SIDE} no image processor "
            "reads it reliably; leave the sample out or enlarge the picture"
        )
    if picture.mode not in _CONVERTED + _SIXTEEN_BITS:
        reason = _REFUSED.get(picture.mode, "of a kind without a defined way to RGB")
        raise ValueError(f"{name} has mode {picture.mode} ({reason}); scale it to 0 … 255 and convert it to RGB")


def _converted(picture: Image.Image) -> Image.Image:
    upright = ImageOps.exif_transpose(picture)
    if upright.mode in _SIXTEEN_BITS:
        return _eight_bits(upright)
    if upright.has_transparency_data:
        layers = upright.convert("RGBA")
        result = Image.new("RGB", layers.size, _WHITE)
        result.paste(layers, mask=layers.getchannel("A"))
        return result
    result = upright.convert("RGB")
    if result is picture or result.info or type(result) is not Image.Image:
        result = result.copy()
        result.info = {}
    return result


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Of 16-bit greys: v / 257, rounded, so that black stays black and white white. A grey declared transparent is
    white."""
    import numpy as np

    values = np.asarray(picture).astype(np.uint32)
    greys = ((values + 128) // 257).astype(np.uint8)
    transparent = picture.info.get("transparency")
    if transparent is not None:
        greys[values == transparent] = 255
    return Image.fromarray(greys).convert("RGB")


def unreadable(error: Exception, file: str) -> str:
    """Why a picture can't be read, and what to do."""
    told = str(error) or type(error).__name__
    if isinstance(error, UnidentifiedImageError):  # its own text names an object in memory
        told = "it is no picture of a kind that can be read, or its beginning is damaged"
    where = f" {file}" if file and file not in told else ""
    return f"can't read{where} ({told}); replace the file, or leave the sample out"
