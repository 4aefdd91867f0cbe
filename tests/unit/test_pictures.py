"""Pictures of every kind become the same upright, opaque RGB picture for engines and trainers."""

from __future__ import annotations

import io
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from cpt.common.pictures import MIN_SIDE, open_picture, prepared
from cpt.tasks.world import builtin
from cpt.types import Sample

ORIENTATION = 0x0112
UPRIGHT = np.arange(8 * 5 * 3, dtype=np.uint8).reshape(5, 8, 3)  # no two pixels alike
# How a camera that says `n` has stored the upright picture (EXIF 2.32, tag 0x0112): where row 0 and column 0 are.
STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.transpose(1, 0, 2),
    6: UPRIGHT.transpose(1, 0, 2)[::-1],
    7: UPRIGHT.transpose(1, 0, 2)[::-1, ::-1],
    8: UPRIGHT.transpose(1, 0, 2)[:, ::-1],
}


def sample(*pictures: Any) -> Sample:
    return Sample("photos/train/7", "photos", "What is this?", pictures, ("a dog",))


def seen(picture: Any) -> np.ndarray:
    """What an engine in another process gets of a sample's picture, after all that an engine may do with it."""
    (kept,) = pickle.loads(pickle.dumps(sample(picture))).images
    assert type(kept) is Image.Image and kept.mode == "RGB" and kept.info == {} and not kept.getexif()
    assert ImageOps.exif_transpose(kept).tobytes() == kept.tobytes()
    return np.asarray(kept)


def reopened(picture: Image.Image, fmt: str, **options: Any) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, format=fmt, **options)
    return Image.open(io.BytesIO(buffer.getvalue()))


def tagged(number: int, fmt: str = "PNG") -> Image.Image:
    exif = Image.Exif()
    exif[ORIENTATION] = number
    return reopened(Image.fromarray(np.ascontiguousarray(STORED[number])), fmt, exif=exif)


@pytest.mark.parametrize("number", STORED)
def test_a_picture_is_turned_by_its_orientation(number: int):
    assert np.array_equal(seen(tagged(number)), UPRIGHT)
    # `convert` keeps the tag, pickle too: what a task hands over may come that way.
    assert np.array_equal(seen(pickle.loads(pickle.dumps(tagged(number).convert("RGB")))), UPRIGHT)


def test_a_photo_is_turned_too():
    jpeg = tagged(6, "JPEG")
    assert seen(jpeg).shape == UPRIGHT.shape
    assert np.array_equal(seen(jpeg), np.asarray(jpeg.convert("RGB")).transpose(1, 0, 2)[:, ::-1])


def test_transparency_is_composited_on_white():
    """Of red at alpha 0, 51 (a fifth) and 255 on white: white, (255, 204, 204) and red."""
    rgba = Image.new("RGBA", (6, 4), (255, 0, 0, 255))
    for x in range(6):
        rgba.putpixel((x, 0), (255, 0, 0, 0))
        rgba.putpixel((x, 1), (255, 0, 0, 51))
    shown = seen(rgba)
    assert shown[0, 0].tolist() == [255, 255, 255]
    assert shown[1, 0].tolist() == [255, 204, 204]
    assert shown[2, 0].tolist() == [255, 0, 0]
    grey = Image.new("LA", (6, 4), (0, 51))
    assert np.array_equal(seen(grey), np.full((4, 6, 3), 204))


def test_a_palette_with_and_without_transparency():
    colours = Image.new("P", (6, 4), 1)
    colours.putpalette([10, 20, 30, 40, 50, 60])
    colours.putpixel((0, 0), 0)
    plain = seen(reopened(colours, "PNG"))
    assert plain[0, 0].tolist() == [10, 20, 30] and plain[1, 1].tolist() == [40, 50, 60]
    for fmt in ("PNG", "GIF"):
        clear = seen(reopened(colours, fmt, transparency=0))
        assert clear[0, 0].tolist() == [255, 255, 255] and clear[1, 1].tolist() == [40, 50, 60]


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("L", 90, [90, 90, 90]),
        ("1", 1, [255, 255, 255]),
        ("CMYK", (0, 255, 255, 0), [255, 0, 0]),
        ("CMYK", (0, 0, 0, 255), [0, 0, 0]),
        ("RGBX", (1, 2, 3, 4), [1, 2, 3]),
        ("HSV", (0, 0, 77), [77, 77, 77]),
        ("I;16", 65_535, [255, 255, 255]),
        ("I;16", 257 * 100, [100, 100, 100]),
        ("I;16", 128, [0, 0, 0]),
        ("I;16", 129, [1, 1, 1]),
        ("I;16B", 257 * 7, [7, 7, 7]),
    ],
)
def test_other_modes_become_rgb(mode: str, colour: Any, expected: list[int]):
    assert seen(Image.new(mode, (6, 4), colour))[2, 3].tolist() == expected


def test_sixteen_bits_from_a_file_with_a_transparent_grey():
    values = np.array([[0, 257, 514, 65_535]] * 4, dtype=np.uint16)
    picture = reopened(Image.fromarray(values), "PNG")
    assert picture.mode == "I;16"
    assert seen(picture)[0].tolist() == [[v] * 3 for v in (0, 1, 2, 255)]
    picture.info["transparency"] = 257
    assert seen(picture)[0].tolist() == [[v] * 3 for v in (0, 255, 2, 255)]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_what_has_no_range_is_refused_by_name(mode: str):
    with pytest.raises(ValueError, match=f"sample photos/train/7: the picture has mode {mode} .*convert it to RGB"):
        sample(Image.new(mode, (6, 4)))


def test_what_is_no_picture_is_refused_by_name():
    with pytest.raises(ValueError, match="photos/train/7: picture 2 is no PIL picture but a ndarray"):
        sample(Image.new("RGB", (8, 8)), UPRIGHT)


@pytest.mark.parametrize("size", [(1, 1), (40, 3), (3, 40), (0, 9)])
def test_a_side_that_reads_as_colour_channels_is_refused(size: tuple[int, int]):
    with pytest.raises(ValueError, match=f"the picture is {size[0]} × {size[1]} pixels"):
        sample(Image.new("RGB", size))
    assert sample(Image.new("RGB", (MIN_SIDE, MIN_SIDE))).images


def test_damaged_files_are_named(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    whole = io.BytesIO()
    Image.fromarray(noise).save(whole, "PNG")
    cut, empty, text = tmp_path / "cut.png", tmp_path / "empty.png", tmp_path / "text.png"
    cut.write_bytes(whole.getvalue()[:4000])
    empty.write_bytes(b"")
    text.write_text("no picture")
    with pytest.raises(ValueError, match=r"sample photos/train/7: the picture \(64 × 64\): can't read .*cut.png"):
        sample(Image.open(cut))
    for file in (cut, empty, text, tmp_path / "none.png", tmp_path):
        with pytest.raises(ValueError, match=f"sample a: .*can't read.*{file.name}.*leave the sample out"):
            open_picture(file, "sample a")
    good = tmp_path / "good.png"
    good.write_bytes(whole.getvalue())
    assert np.array_equal(np.asarray(open_picture(good, "sample a")), noise)


@pytest.mark.parametrize(("old", "new"), [(b"IDAT", b"I\0AT"), (b"IHDR", b"IHDX"), (b"\x78\x9c", b"\0\0")])
def test_any_damage_is_one_line(tmp_path: Path, old: bytes, new: bytes):
    """Decoders meet damaged bytes with exceptions of many kinds, SyntaxError among them."""
    whole = io.BytesIO()
    Image.fromarray(UPRIGHT).save(whole, "PNG")
    file = tmp_path / "flipped.png"
    file.write_bytes(whole.getvalue().replace(old, new))
    with pytest.raises(ValueError, match=r"sample photos/train/7.*can't read.*flipped\.png") as caught:
        open_picture(file, "sample photos/train/7")
    assert "\n" not in str(caught.value)


def test_a_plain_picture_stays_the_same_object():
    plain = Image.fromarray(UPRIGHT)
    assert prepared(plain, "it") is plain
    first = sample(plain)
    assert first.images[0] is plain and replace(first, gold=("?",)).images[0] is plain
    turned = sample(tagged(6))
    assert replace(turned, gold=("?",)).images[0] is turned.images[0]


def test_the_built_in_world_is_left_alone():
    for task in builtin.tasks():
        for one in task.samples("test", 3):
            for picture in one.images:
                assert prepared(picture, "it") is picture


def test_the_given_picture_is_not_changed():
    given = Image.new("RGB", (8, 6), "red")
    given.info["dpi"] = (72, 72)
    (kept,) = sample(given).images
    assert kept is not given and kept.info == {} and given.info == {"dpi": (72, 72)}
