"""How often stored pictures are read, and when: nothing before its batch, nothing twice."""

from __future__ import annotations

import io
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from cpt.common.stored_pictures import PictureFile, StoredPicture, StoredPictures
from cpt.rollout import chunks
from cpt.run.reads import Read, Use
from cpt.run.rows import rows_of
from cpt.tasks import declare
from cpt.tasks.audit.pictures import NEAR, look_of
from cpt.tasks.audit.scan import audit
from cpt.tasks.data_task import DataTask
from cpt.tasks.definition import TaskDefinition
from cpt.tasks.registry import get_task
from cpt.train.data import as_dataset, policy_rows
from cpt.train.requests import sampled
from cpt.types import Completion, GenerationRequest, Sample, SamplingParams

ROWS = 20


class Held(StoredPicture):
    """A picture in memory, that counts how often it is read."""

    name = "held"

    def __init__(self, content: bytes) -> None:
        self.content, self.reads = content, 0

    def read(self) -> bytes:
        self.reads += 1
        return self.content


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each picture file is read."""
    found: Counter[str] = Counter()
    plain = PictureFile.read

    def counted(self: PictureFile) -> bytes:
        found[self.path.name] += 1
        return plain(self)

    monkeypatch.setattr(PictureFile, "read", counted)
    return found


@pytest.fixture
def task(tmp_path: Path) -> DataTask:
    """Twenty rows of training and one of test, a picture each."""
    for number in range(ROWS + 1):
        shade = Image.linear_gradient("L").rotate(17 * number).resize((24, 16))
        shade.save(tmp_path / f"{number}.jpg")
    for name, numbers in (("train", range(ROWS)), ("test", [ROWS])):
        lines = [f'{{"question": "q {n}?", "answer": "yes", "image": "{n}.jpg"}}\n' for n in numbers]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    definition = TaskDefinition.model_validate({"name": "counted", "data": str(tmp_path)})
    declare([definition])
    found = get_task("counted")
    assert isinstance(found, DataTask)
    return found


def test_a_picture_is_read_when_its_batch_is_and_not_before(task: DataTask, read: Counter[str]) -> None:
    task.open()
    rows = as_dataset(policy_rows(task.samples("train", ROWS), "direct"), range(ROWS))
    assert not read
    batch = rows[4:8]
    assert len(batch["images"]) == 4 and list(read.values()) == [1] * 4
    assert all(isinstance(picture, Image.Image) for (picture,) in batch["images"])


def test_a_check_reads_every_picture_once(task: DataTask, read: Counter[str]) -> None:
    assert len(rows_of(Read("counted", "train", 0, ROWS, (Use("direct", 8),)))) == ROWS
    assert list(read.values()) == [1] * ROWS
    read.clear()
    task.fingerprint("train", ROWS, 0)
    assert list(read.values()) == [1] * ROWS


def test_an_audit_reads_every_picture_once(task: DataTask, read: Counter[str]) -> None:
    assert audit(task).rows == {"train": ROWS, "test": 1}
    assert list(read.values()) == [1] * (ROWS + 1)


def test_a_stage_s_prompts_are_sampled_a_chunk_of_pictures_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "PIXELS", 2 * 24 * 16)
    held = [Held(encoded(Image.new("RGB", (24, 16)), "PNG")) for _ in range(5)]
    samples = [Sample(f"s{i}", "t", "q", StoredPictures([one], f"s{i}"), ("a",)) for i, one in enumerate(held)]
    calls: list[tuple[list[int], int]] = []

    class Pool:
        def generate(self, asked: list[GenerationRequest], params: SamplingParams, version: str) -> Any:
            calls.append(([one.seed for one in asked], sum(one.reads for one in held)))
            assert version == "v" and [len(one.images) for one in asked] == [1] * len(asked)
            return [[Completion([one.seed], [0.0], "a", "stop")] for one in asked]

    known = {sample.id: [number] for number, sample in enumerate(samples)}
    pool: Any = Pool()
    found = sampled(pool, SamplingParams(4, 1.0), "v", samples, range(10, 15), "direct", None, known)
    assert [one.token_ids for (one,) in found] == [[10], [11], [12], [13], [14]]
    # The picture that shows that a chunk is full has been read, too, and waits for the next one.
    assert calls == [([10, 11], 3), ([12, 13], 5), ([14], 5)]


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, format=kind, **options)
    return file.getvalue()


def photo(side: int = 640) -> Image.Image:
    return Image.frombytes("RGB", (12, 9), random.Random(3).randbytes(324)).resize((side, side * 3 // 4))


def test_a_glance_at_a_jpeg_is_grey_and_small_and_looks_alike() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    held = Held(encoded(photo(), "JPEG", exif=exif))
    pictures = StoredPictures([held], "s")
    found = pictures.glance(0)
    assert held.reads == 1 and found.key == held.key
    # A quarter of the sides would be below 128 pixels.
    assert found.size == pictures[0].size == (480, 640) and found.picture.size == (240, 320)
    near, whole = look_of(found.picture), look_of(pictures[0])
    assert near is not None and whole is not None and (near ^ whole).bit_count() <= NEAR


@pytest.mark.parametrize("progressive", [False, True])
def test_a_glance_finds_every_jpeg_that_can_t_be_read(progressive: bool) -> None:
    whole = encoded(photo(), "JPEG", progressive=progressive)
    chance = random.Random(0)
    cut = [whole[: len(whole) * part // 8] for part in range(8)]
    garbled = []
    for _ in range(24):
        at = chance.randrange(len(whole))
        garbled.append(whole[:at] + chance.randbytes(8) + whole[at + 8 :])
    failed = 0
    for content in cut + garbled:
        pictures = StoredPictures([Held(content)], "s")
        told = problem(pictures.__getitem__)
        assert problem(pictures.glance) == told
        failed += bool(told)
    assert 7 < failed < 32


def problem(look: Callable[[int], object]) -> str:
    try:
        look(0)
    except ValueError as error:
        return str(error)
    return ""


def test_the_size_of_a_png_is_known_without_decoding_it(monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    plain, turned = (Held(encoded(Image.new("RGB", (24, 16)), "PNG", **more)) for more in ({}, {"exif": exif}))
    assert StoredPictures([plain, turned], "s").sizes() == ((24, 16), (16, 24))

    def load(_picture: PngImageFile) -> None:
        raise AssertionError("it is decoded")

    monkeypatch.setattr(PngImageFile, "load", load)
    assert StoredPictures([plain], "s").sizes() == ((24, 16),)
    assert plain.reads == 2


def test_a_fingerprint_looks_at_the_words_of_all_captions_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f'{{"question": "what is {n}?", "captions": ["a red cat {n}", "one cat"]}}\n' for n in range(ROWS)]
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    own = DataTask(TaskDefinition.model_validate({"name": "captions", "data": str(tmp_path), "metric": "cider"}))
    looks: list[int] = []

    class Counts(dict[str, int]):
        def items(self) -> Any:
            looks.append(len(self))
            return super().items()

    shared = own.samples("train", 1)[0].meta["document_frequencies"]
    monkeypatch.setattr(shared, "counts", Counts(shared.counts))
    first = own.fingerprint("train", ROWS, 0)
    assert len(looks) == 1 and own.fingerprint("train", ROWS, 0) == first
