"""Every sample is looked at before a run starts; what would stop it later is named by sample, with what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command import cpt
from folders import load_arm
from PIL import Image

pytest.importorskip("transformers")

from cpt.common.pictures import open_picture
from cpt.methods.sdft import SDFT
from cpt.models.load import load_processor
from cpt.plan.make import make_plan, plan_model
from cpt.plan.stages import ModelPlan
from cpt.recipe.schema import Model, Rollout
from cpt.rollout.encode import encode_prompts
from cpt.rollout.limits import EngineKind
from cpt.run import rows, rows_fit
from cpt.run.cluster import Placement
from cpt.run.loop import start_pool
from cpt.run.reads import Read, Use
from cpt.run.rows import check_first_rows, check_rows, known_to_fit, run_reads, stage_reads
from cpt.tasks import get_task
from cpt.tasks.world import builtin
from cpt.tasks.world.format import FORMAT
from cpt.types import Sample, TargetStyle

BUILTIN = "builtin/tiny-qwen2_5-vl"
GENERATED = (Use("direct", 8),)


class Own:
    """A task of one's own: its samples are made by a function of their number."""

    name = "own"

    def __init__(self, make: Callable[[int], tuple[str, Sequence[Any]]]) -> None:
        self.make = make

    def samples(self, split: str, n: int, seed: int = 0) -> list[Sample]:
        made = [self.make(number) for number in range(n)]
        return [
            Sample(f"own/{split}/{k}", "own", text, tuple(pictures), ("1",)) for k, (text, pictures) in enumerate(made)
        ]

    def messages(self, sample: Sample, prompt: Any) -> list[dict[str, Any]]:
        return FORMAT.messages(sample, prompt)

    def target(self, sample: Sample, style: TargetStyle, prompt: Any) -> str:
        return FORMAT.target(sample, style, prompt)


@pytest.fixture(scope="module")
def model() -> ModelPlan:
    return plan_model(Model(name_or_path=BUILTIN))


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], tuple[str, Sequence[Any]]]], None]:
    """Makes the task `own` known to the checks."""

    def use(make: Callable[[int], tuple[str, Sequence[Any]]]) -> None:
        task = Own(make)
        monkeypatch.setattr(rows, "get_task", lambda name: task if name == "own" else get_task(name))

    return use


def read(samples: int = 4, split: Any = "train", uses: tuple[Use, ...] = GENERATED) -> list[Read]:
    return [Read("own", split, 0, samples, uses)]


def blank(width: int = 48, height: int = 48) -> Image.Image:
    return Image.new("RGB", (width, height))


def words(count: int) -> str:
    return " ".join(["red"] * count)


def tokens_of(model: ModelPlan, text: str, pictures: Sequence[Image.Image]) -> int:
    sample = Sample("own/train/0", "own", text, tuple(pictures), ("1",))
    (ids,) = encode_prompts(load_processor(model.path), [FORMAT.messages(sample, "direct")], [sample.images])
    return len(ids)


def test_shapes_that_the_processor_refuses_are_named_all_at_once(model, own):
    """Its limit is 200:1. 995:5 is below it, 1005:5 above."""
    sizes = [(48, 48), (1500, 5), (995, 5), (5, 1005), (60, 40)]
    own(lambda k: ("What is this ?", [blank(), blank(*sizes[k])] if k == 3 else [blank(*sizes[k])]))
    with pytest.raises(ValueError, match="refused by the model's processor") as caught:
        check_rows(read(5), model, None)
    first, second = str(caught.value).splitlines()
    assert first.startswith("sample own/train/1: picture 1 of 1500 × 5 pixels is refused by the model's processor (abs")
    assert first.endswith("got 300.0); crop, pad or scale it, or leave the sample out")
    assert second.startswith("sample own/train/3: picture 2 of 5 × 1005 pixels is refused")


def test_a_processor_that_does_not_load_is_no_fault_of_a_picture(model, own, monkeypatch):
    def load(*_: Any, **__: Any) -> Any:
        raise ImportError("OwnProcessor requires\nnum2words")

    monkeypatch.setattr("cpt.run.rows_fit.load_processor", load)
    own(lambda k: ("What is this ?", [blank()]))
    said = rf"^{BUILTIN}: the model's processor can't be loaded \(OwnProcessor requires num2words\)$"
    with pytest.raises(ValueError, match=said):
        check_rows(read(1), model, None)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_ninth_sample_with_two_pictures_is_too_many_for_a_family(model, own, tmp_path, split):
    """Of training samples, too; the processor is not asked."""
    (tmp_path / "config.json").write_text('{"model_type": "llava_onevision"}')
    other = replace(model, name="some/model", path=str(tmp_path))
    own(lambda k: ("What is this ?", [blank()] * (2 if k == 8 else 1)))
    with pytest.raises(ValueError, match=f"^sample own/{split}/8 has 2 pictures: .*; set rollout.engine: hf$"):
        check_rows(read(9, split), other, None, EngineKind("vllm", gpu=True))


@pytest.mark.parametrize("mark", ["<|im_end|>", "<|im_start|>assistant", "<|image_pad|>", "<|vision_start|>"])
def test_a_text_that_the_model_would_read_as_a_mark_is_refused(model, own, mark):
    own(lambda k: (f"What {mark} is this ?" if k == 2 else "What is <answer> this <b> <unk> ?", [blank()]))
    token = mark.removesuffix("assistant")
    with pytest.raises(ValueError, match="reads as a mark") as caught:
        check_rows(read(4), model, None)
    assert str(caught.value) == (
        f"sample own/train/2: its text has {token}, which the model reads as a mark of the chat or of a picture; take "
        "it out of the data of own, or leave the sample out"
    )


def test_an_answer_that_would_end_the_turn_is_refused_where_it_is_imitated(model, own, monkeypatch):
    monkeypatch.setattr(Own, "target", lambda self, sample, style, prompt: "yes <|im_end|> no")
    own(lambda k: ("What is this ?", [blank()]))
    check_rows(read(2), model, None)
    with pytest.raises(ValueError, match=r"^sample own/train/0: its text has <\|im_end\|>"):
        check_rows(read(2, uses=(Use("direct", target="policy"),)), model, None)


def test_many_faults_are_counted(model, own):
    own(lambda k: ("What is this ?", [blank(1500, 5)]))
    with pytest.raises(ValueError, match=r"own/train/9: picture(?s:.*)\nand 4 more$"):
        check_rows(read(14), model, None)


@pytest.mark.parametrize("counts", [True, False], ids=["counted", "encoded"])
def test_a_prompt_that_is_one_token_too_long_is_named(model, own, monkeypatch, counts):
    """With two pictures; 512 tokens are the model's limit, 8 of them for the completion."""
    if not counts:

        class Plain:
            def __init__(self, processor: Any) -> None:
                self.inner = processor

            def __getattr__(self, name: str) -> Any:
                if name == "_get_num_multimodal_tokens":
                    raise AttributeError(name)
                return getattr(self.inner, name)

            def __call__(self, *args: Any, **options: Any) -> Any:
                return self.inner(*args, **options)

        monkeypatch.setattr("cpt.run.rows_fit.load_processor", lambda *a, **k: Plain(load_processor(*a, **k)))
    pictures = [blank(), blank(60, 40)]
    fits = 512 - 8 - tokens_of(model, "", pictures)
    assert tokens_of(model, words(fits), pictures) == 504
    own(lambda k: (words(fits if k != 2 else fits + 1), pictures))
    assert check_rows(read(2), model, None) == 2
    said = (
        r"^sample own/train/2: its prompt of 505 tokens \(2 pictures\) and 8 of a completion exceed the model's limit "
    )
    with pytest.raises(
        ValueError, match=said + "of 512; .*lower method.max_completion_length, or leave the sample out$"
    ):
        check_rows(read(3), model, None)
    said = (
        "own/test/0: .* exceed rollout.max_model_len of 500; .*lower evaluation.max_tokens, raise rollout.max_model_len"
    )
    with pytest.raises(ValueError, match=said):
        check_rows(read(1, "test"), model, 500)


def test_a_target_counts_where_it_is_imitated(model, own):
    """`<answer> 1 </answer>` is three tokens: the longest prompt beside it has 509, whatever engines take."""
    fits = 509 - tokens_of(model, "", [])
    own(lambda k: (words(fits + (k == 1)), []))
    imitated = (Use("direct", target="policy"),)
    assert check_rows(read(1, uses=imitated), model, 100) == 0
    with pytest.raises(
        ValueError, match="own/train/1: its prompt of 510 tokens and 3 of its answer exceed the model's"
    ):
        check_rows(read(2, uses=imitated), model, 100)


def test_a_teacher_s_demonstration_counts(model, own):
    """It is the answer between two words, `<answer> 1 </answer>` three: 5 tokens more for the trainer."""
    teacher = SDFT(type="sdft", max_steps=1, demonstration="red {demonstration} red")
    fits = 512 - 8 - 5 - tokens_of(model, "", [])
    own(lambda k: (words(fits + (k == 1)), []))
    taught = (Use("direct", 8), Use("direct", 8, teacher=teacher))
    assert check_rows(read(1, uses=taught), model, None) == 0
    said = "own/train/1: its prompt of 505 tokens and 8 of a completion .*, shorten method.demonstration, lower method"
    with pytest.raises(ValueError, match=said):
        check_rows(read(2, uses=taught), model, 512)


def test_the_most_pictures_of_a_sample_are_what_engines_are_ready_for(model, own, monkeypatch):
    own(lambda k: ("Which one ?", [blank()] * (1 + 2 * k)))
    assert check_rows(read(4), model, None) == 7
    started: list[Any] = []
    monkeypatch.setattr("cpt.rollout.pool.RolloutPool.start", lambda *_, **settings: started.append(settings))
    for pictures in (1, 7):
        start_pool(model, Rollout(), Placement(0, 0), pictures)
    assert [settings["limit_images"] for settings in started] == [4, 7]


def test_damaged_files_stop_before_anything_starts(model, own, tmp_path: Path):
    good, cut = tmp_path / "good.png", tmp_path / "cut.png"
    Image.effect_noise((64, 64), 90).save(good)
    cut.write_bytes(good.read_bytes()[:1000])
    own(lambda k: ("What ?", [open_picture(cut if k == 2 else good, f"sample own/train/{k}")]))
    assert check_rows(read(2), model, None) == 1
    with pytest.raises(ValueError, match=r"sample own/train/2: the picture \(64 × 64\): can't read .*cut\.png"):
        check_rows(read(3), model, None)
    with pytest.raises(ValueError, match=r"own/train/2.*cut\.png"):
        check_first_rows(read(3))
    own(lambda k: ("What ?", [Image.open(tmp_path / "none.png")]))
    with pytest.raises(ValueError, match=r"task own, split train: .*none\.png"):
        check_rows(read(1), model, None)


def test_a_threshold_that_no_score_can_have_stops_before_anything_starts(model, own, monkeypatch):
    monkeypatch.setattr(Own, "right_from", 90, raising=False)
    own(lambda k: ("What ?", []))
    with pytest.raises(ValueError, match="task own: right_from is 90; set a number above 0 and at most 1"):
        check_rows(read(1, "test"), model, None)


def test_a_plan_looks_at_the_first_rows_alone(own):
    seen: list[int] = []
    own(lambda k: (seen.append(k), ("What ?", []))[1])
    check_first_rows([*read(10_000), Read("exists", "test", 0, 10_000, GENERATED)])
    assert seen == list(range(rows.FIRST))


def test_what_a_task_gives_is_counted(own, model, monkeypatch):
    own(lambda k: ("What ?", []))
    task: Any = rows.get_task("own")
    monkeypatch.setattr(task, "samples", lambda split, n, seed: Own.samples(task, split, 2, seed))
    with pytest.raises(ValueError, match="task own: 3 samples of split train are asked for, and it gave 2"):
        check_rows(read(3), model, None)
    monkeypatch.setattr(task, "samples", lambda split, n, seed: [{"question": "What ?"}] * n)
    with pytest.raises(ValueError, match=r"samples that are no cpt\.types\.Sample but dict"):
        check_rows(read(3), model, None)
    monkeypatch.setattr(task, "samples", lambda split, n, seed: Own.samples(task, split, 1, seed) * n)
    with pytest.raises(ValueError, match="two samples of split train have the id own/train/0"):
        check_rows(read(3), model, None)


def test_a_leak_and_a_chat_without_its_picture_are_found_in_time(own, model, monkeypatch):
    own(lambda k: ("What ?", [blank()]))
    task: Any = rows.get_task("own")
    without = [{"role": "user", "content": "What ?"}]
    monkeypatch.setattr(task, "messages", lambda sample, prompt: without)
    for split in ("train", "test"):
        with pytest.raises(ValueError, match=f"own/{split}/0 has 1 pictures and 0 image placeholders"):
            check_rows(read(1, split), model, None)
    monkeypatch.setattr(
        task, "messages", lambda sample, prompt: FORMAT.messages(replace(sample, question=sample.gold[0]), prompt)
    )
    with pytest.raises(ValueError, match="made from its gold answer"):
        check_rows(read(1), model, None)


GRPO = "{method: {type: grpo, max_steps: 2, per_device_train_batch_size: 64}, replay: {type: buffer, budget: 8}}"


def test_what_a_run_reads(tmp_path: Path):
    recipe = load_arm(tmp_path, GRPO, "data.samples=64", "evaluation.samples=5", "seeds=[0, 1]", "general=[exists]")
    found = {(one.task, one.split, one.seed): one for one in run_reads(make_plan(recipe))}
    assert set(found) == {
        *((task, "train", seed) for task in ("count-colour", "which-row") for seed in (0, 1)),
        *((task, "test", 0) for task in ("count-colour", "which-row", "exists")),
    }
    assert {one.samples for one in found.values() if one.split == "train"} == {64}
    assert {one.samples for one in found.values() if one.split == "test"} == {5}
    assert found["count-colour", "train", 1].uses == (Use("direct", 8),)


@pytest.mark.parametrize(
    "rest", ["schedule: joint", "replay: {type: buffer, tasks: [exists], samples: 32}"], ids=["joint", "replay"]
)
def test_what_a_stage_reads_is_what_its_key_is_of(tmp_path: Path, rest: str):
    arm = f"{{method: {{type: sft, max_steps: 2}}, {rest}}}"
    plan = make_plan(load_arm(tmp_path, arm, "data.samples=64", "general=[exists]"))
    found = [{read.task: read.samples for read in stage_reads(stage)} for stage in plan.stages]
    assert found == [stage.reads for stage in plan.stages]
    own = {"count-colour": 64, "which-row": 64}
    assert found[-1] == (own if "joint" in rest else {"which-row": 64, "count-colour": 64, "exists": 32})


def test_sft_imitates_and_its_filter_generates(tmp_path: Path):
    arm = "{method: {type: sft, max_steps: 2, target_style: think}, filter: {type: rif, keep: learnable}}"
    (first, *_) = run_reads(make_plan(load_arm(tmp_path, arm, "data.samples=64")))
    assert (first.task, first.split, first.samples) == ("count-colour", "train", 64)
    assert first.uses[0].new_tokens is not None and first.uses[1] == Use("direct", target="think")


def test_what_is_built_in_is_known_to_fit(model, monkeypatch):
    """The demo's start pays nothing: no sample is made, transformers is not imported."""
    reads = [Read(task.name, "train", 0, 10**9, (Use("think", 32, "think"),)) for task in builtin.tasks()]
    monkeypatch.setattr(rows, "get_task", lambda name: pytest.fail("a sample is made"))
    assert check_rows(reads, model, None) == 1
    assert not known_to_fit(reads, model, builtin.MAX_PROMPT_TOKENS)
    assert not known_to_fit(reads, replace(model, name="some/model"), None)
    assert not known_to_fit([*reads, *read()], model, None)
    assert not known_to_fit([replace(reads[0], uses=(Use("think", 500),))], model, None)


def test_the_claim_about_what_is_built_in(model):
    processor = load_processor(model.path)
    for task in builtin.tasks():
        samples = task.samples("train", 200)
        assert all(len(sample.images) <= 1 for sample in samples)
        longest = max(samples, key=lambda sample: len(sample.question.split()))  # a word is a token
        for prompt in ("direct", "think"):
            (ids,) = encode_prompts(processor, [task.messages(longest, prompt)], [longest.images])
            assert len(ids) <= builtin.MAX_PROMPT_TOKENS
            targets = [
                task.target(sample, style, prompt) for sample in samples for style in ("dataset", "policy", "think")
            ]
            assert max(map(len, processor.tokenizer(targets)["input_ids"])) <= builtin.MAX_PROMPT_TOKENS


def test_a_run_of_prompts_that_do_not_fit_ends_before_it_starts(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    recipe = Path(__file__).parents[2] / "recipes" / "quickstart.yaml"
    smaller = ("rollout.max_model_len=40", "data.samples=16", "evaluation.samples=8")
    assert cpt("run", str(recipe), *smaller, "--out", "run") == 2
    said = capsys.readouterr().err
    assert said.startswith(
        "cpt: error: sample choice/train/0/0: its prompt of 34 tokens (1 picture) and 8 of a completion"
    )
    assert "exceed rollout.max_model_len of 40" in said
    assert list((tmp_path / "run").iterdir()) == []


def test_the_model_s_own_limit(model):
    assert rows_fit.own_limit(model) == 512
