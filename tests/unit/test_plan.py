"""The plan: stages, keys, limits and disk, computed by hand for a model of twenty numbers."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from folders import SHAPES, model_folder

from cpt.plan.disk import check_room, estimate_bytes, size
from cpt.plan.make import make_plan
from cpt.plan.preflight import preflight
from cpt.plan.run_plan import RunPlan
from cpt.recipe import load_recipe
from cpt.run.cluster import Placement
from cpt.run.loop import start_pool
from cpt.tasks.world.builtin import MAX_COMPLETION_TOKENS

BASE = """\
version: 1
name: demo
seeds: [0, 1]
model: {name_or_path: MODEL}
tasks: [count-colour, {name: which-row, samples: 256, evaluation_samples: 10}]
general: [exists]
data: {samples: 512}
evaluation: {samples: 100}
arms:
  sft: {method: {type: sft, per_device_train_batch_size: 64}}
  grpo: {method: {type: grpo, max_steps: 10, per_device_train_batch_size: 32}, sweep: {beta: [0.0, 0.1]}}
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return model_folder(tmp_path / "model")


@pytest.fixture
def recipe(tmp_path: Path, model: Path):
    def load(*overrides: str):
        path = tmp_path / "demo.yaml"
        path.write_text(BASE.replace("MODEL", str(model)))
        return load_recipe(path, overrides)

    return load


def keys(plan: RunPlan) -> dict[tuple[str, int, int], str]:
    return {(stage.arm, stage.seed, stage.index): stage.key for stage in plan.stages}


def test_stages_of_every_arm_and_seed(recipe):
    plan = make_plan(recipe())
    assert list(plan.arms) == [(arm, seed) for arm in ("sft", "grpo@beta=0.0", "grpo@beta=0.1") for seed in (0, 1)]
    first, second = plan.arms["sft", 0]
    assert (first.index, first.task, first.data_samples, first.steps) == (1, "count-colour", 512, 8)
    assert (second.index, second.task, second.data_samples, second.steps) == (2, "which-row", 256, 4)
    assert second.parent_key == first.key
    assert (first.global_batch, first.batch_samples, first.max_completion_length) == (64, 64, None)
    grpo = plan.arms["grpo@beta=0.1", 1][0]
    assert (grpo.family, dict(grpo.sweep), grpo.method.beta) == ("grpo", {"method.beta": 0.1}, 0.1)
    assert (grpo.global_batch, grpo.batch_samples, grpo.steps) == (32, 4, 10)
    assert grpo.max_completion_length == MAX_COMPLETION_TOKENS["direct"]
    assert plan.global_batch() == {"sft": 64, "grpo@beta=0.0": 32, "grpo@beta=0.1": 32}


def test_every_stage_evaluates_all_tasks(recipe):
    plan = make_plan(recipe())
    assert plan.stages[0].evaluation.samples == {"count-colour": 100, "which-row": 10, "exists": 100}
    assert plan.evaluated_samples() == 210 * (2 + 12)  # two seeds of the base model, 3 arms × 2 seeds × 2 stages


def test_one_limit_of_tokens_for_all_arms(recipe):
    direct, think = MAX_COMPLETION_TOKENS["direct"], MAX_COMPLETION_TOKENS["think"]
    assert {stage.evaluation.max_tokens for stage in make_plan(recipe()).stages} == {direct}
    mixed = recipe("arms.grpo.prompt=think")
    assert {stage.evaluation.max_tokens for stage in make_plan(mixed).stages} == {think}
    assert {stage.evaluation.max_tokens for stage in make_plan(mixed, ["sft"]).stages} == {think}
    talkative = recipe("arms.sft.method.target_style=think")
    assert {stage.evaluation.max_tokens for stage in make_plan(talkative).stages} == {think}
    assert {stage.evaluation.max_tokens for stage in make_plan(recipe("evaluation.max_tokens=5")).stages} == {5}


def test_the_base_model_is_evaluated_once_per_prompt_style(recipe):
    plan = make_plan(recipe("arms.sft.prompt=think"))
    assert [(base.prompt, base.seed) for base in plan.bases] == [
        ("think", 0),
        ("think", 1),
        ("direct", 0),
        ("direct", 1),
    ]
    assert len({(base.prompt, base.key) for base in plan.bases}) == 2  # the seed makes no difference to the policy


def test_dtype_and_gap_are_resolved(recipe):
    stage = make_plan(recipe()).stages[0]
    assert (stage.model.dtype, stage.max_logprob_gap) == ("float32", 1e-4)
    stage = make_plan(recipe("model.dtype=bfloat16")).stages[0]
    assert (stage.model.dtype, stage.max_logprob_gap) == ("bfloat16", 0.5)
    assert make_plan(recipe("rollout.max_logprob_gap=0.01")).stages[0].max_logprob_gap == 0.01


def test_keys_say_what_is_the_same_work(recipe):
    plan = make_plan(recipe())
    found = keys(plan)
    assert len(set(found.values())) == len(found) == 12
    assert keys(make_plan(recipe())) == found
    # Neither names nor what leaves the numbers alone is part of a key.
    assert keys(make_plan(recipe("name=other", "rollout.engines=3", "arms.sft.method.save_steps=2"))) == found
    looser = make_plan(recipe("rollout.max_logprob_gap=0.01"))  # says when a run is stopped
    assert keys(looser) == found
    assert [base.key for base in looser.bases] == [base.key for base in plan.bases]
    # A point of a sweep is the same work as an arm with that value.
    alone = keys(make_plan(recipe("arms.grpo.sweep={}", "arms.grpo.method.beta=0.1")))
    assert alone["grpo", 0, 2] == found["grpo@beta=0.1", 0, 2]


def test_attention_is_part_of_every_key_where_it_is_named(recipe):
    plain, named = recipe(), recipe("model.attention=eager")
    assert not set(keys(make_plan(plain)).values()) & set(keys(make_plan(named)).values())
    assert {base.key for base in make_plan(plain).bases}.isdisjoint(base.key for base in make_plan(named).bases)
    assert plain.resolved_hash() == recipe("model.attention=auto").resolved_hash() != named.resolved_hash()
    # As before there was the key: what stands in plans and run folders of then.
    assert set(make_plan(plain).stages[0].model.content()) == {"fingerprint", "dtype", "trust_remote_code"}


def test_a_change_in_one_stage_changes_it_and_its_children(recipe):
    before = keys(make_plan(recipe()))
    longer = "tasks=[count-colour, {name: which-row, samples: 320, evaluation_samples: 10}]"
    after = keys(make_plan(recipe(longer)))
    changed = {index for (_, _, index), key in before.items() if key not in after.values()}
    assert changed == {2}
    hotter = keys(make_plan(recipe("arms.sft.method.learning_rate=0.5")))
    assert {arm for (arm, seed, index), key in before.items() if key not in hotter.values()} == {"sft"}


def test_a_relative_folder_is_absolute_for_processes_that_work_elsewhere(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = make_plan(
        recipe("model.name_or_path=./model", "arms.sft.kl={coefficient: 0.1, reference: path, path: ./model}")
    )
    assert (plan.model.name, plan.model.path) == ("./model", str(tmp_path / "model"))
    (kl,) = {stage.kl.path for stage in plan.stages if stage.kl is not None}
    assert kl == str(tmp_path / "model")


def test_another_base_model_is_other_work_wherever_it_lies(recipe, model, tmp_path):
    before = keys(make_plan(recipe()))
    model.rename(tmp_path / "elsewhere")
    assert keys(make_plan(recipe(f"model.name_or_path={tmp_path / 'elsewhere'}"))) == before
    other = model_folder(tmp_path / "other", fill=1)
    assert not set(keys(make_plan(recipe(f"model.name_or_path={other}"))).values()) & set(before.values())


def test_some_arms_by_family_or_name(recipe):
    assert {arm for arm, _ in make_plan(recipe(), ["grpo"]).arms} == {"grpo@beta=0.0", "grpo@beta=0.1"}
    assert {arm for arm, _ in make_plan(recipe(), ["grpo@beta=0.1", "sft"]).arms} == {"sft", "grpo@beta=0.1"}
    some = keys(make_plan(recipe(), ["sft"]))
    assert some.items() <= keys(make_plan(recipe())).items()
    with pytest.raises(ValueError, match="there is no arm 'gpro'; did you mean 'grpo'"):
        make_plan(recipe(), ["gpro"])


def test_a_plan_is_plain_data(recipe):
    plan = make_plan(recipe("arms.sft.tuning=lora", "arms.sft.trainer_args={gradient_checkpointing: true}"))
    for stage in plan.stages:
        assert pickle.loads(pickle.dumps(stage)) == stage
    assert json.loads(json.dumps(plan.as_dict())) == plan.as_dict()


def test_disk(recipe, model):
    copy = sum(file.stat().st_size for file in model.iterdir())
    plain = make_plan(recipe())
    records = plain.evaluated_samples() * 200
    assert estimate_bytes(plain) == 12 * copy + records
    # 20 numbers of 4 bytes and two Adam states of each; the last checkpoint and the one being written.
    saving = make_plan(recipe("arms.sft.method.save_steps=2"))
    assert estimate_bytes(saving) == 12 * copy + records + 2 * 20 * 4 * 3
    # An adapter of rank 2 on the one 4 × 4 matrix that is named: 2 × (4 + 4) numbers.
    lora = make_plan(recipe("arms.sft.method.save_steps=2", "model.tuning={type: lora, r: 2}"))
    assert estimate_bytes(lora) == 12 * copy + records + 2 * 16 * 4 * 3
    assert SHAPES["model.layers.0.q_proj.weight"] == (4, 4)


def test_policies_are_counted_in_the_precision_they_are_written_in(recipe, model):
    """The model's 20 numbers lie in float32. Full fine-tuning leaves them so, LoRA in bfloat16 halves them."""
    copy = sum(file.stat().st_size for file in model.iterdir())
    full = make_plan(recipe("model.dtype=bfloat16"))
    records = full.evaluated_samples() * 200
    assert estimate_bytes(full) == 12 * copy + records
    lora = make_plan(recipe("model.dtype=bfloat16", "model.tuning={type: lora, r: 2}"))
    assert estimate_bytes(lora) == 12 * (copy - 40) + records


def test_a_model_on_the_hub_has_no_known_size(recipe):
    plan = make_plan(recipe("model.name_or_path=org/name"))
    assert plan.model.path == "org/name"
    assert estimate_bytes(plan) is None


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Hub's cache, empty."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def tokens() -> list[tuple[str, str, str | None]]:
    """Of every request of urllib's that the `hub` gets: host, model and authorization."""
    return []


@pytest.fixture
def hub(cache: Path, tokens: list[Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A Hub with the config.json of the models org/name and org/text (of text alone); the requests it gets.

    It sends those who ask for org/old on to org/name, and those who ask for org/away to that on another server.
    """
    from huggingface_hub import constants

    asked: list[str] = []
    moved: dict[str, str] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self, send: bool = False) -> None:
            asked.append(f"{self.command} {self.path}")
            model = self.path.removesuffix("/resolve/main/config.json")
            if self.headers["User-Agent"].startswith("Python-urllib"):
                tokens.append((self.headers["Host"].partition(":")[0], model, self.headers["Authorization"]))
            elif model in moved:
                model = "/org/name"
            if model in moved:
                self.send_response(307)
                self.send_header("Location", f"{moved[model]}/org/name/resolve/main/config.json")
                self.end_headers()
                return
            kind = {"/org/name": "qwen2_5_vl", "/org/text": "llama"}.get(model, "")
            there = bool(kind)
            config = json.dumps({"model_type": kind, "torch_dtype": "bfloat16"}).encode() if there else b""
            self.send_response(200 if there else 404)
            for name, value in {"ETag": '"1"', "X-Repo-Commit": "0" * 40, "Content-Length": str(len(config))}.items():
                self.send_header(name, value)
            self.end_headers()
            if send:
                self.wfile.write(config)

        def do_GET(self) -> None:
            self.do_HEAD(send=True)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    moved |= {"/org/old": "", "/org/away": f"http://localhost:{server.server_port}"}
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield asked
    server.shutdown()
    server.server_close()


def test_the_dtype_of_a_model_on_the_hub_is_known_before_anything_starts(recipe, hub, tmp_path):
    loaded = recipe("model.name_or_path=org/name", "rollout.engine=hf")
    assert make_plan(loaded).model.dtype == "auto"
    assert hub == []  # a plan asks nobody
    preflight(loaded, tmp_path / "run")
    assert hub[-1] == "GET /org/name/resolve/main/config.json"
    plan = make_plan(loaded)
    assert (plan.model.dtype, plan.stages[0].max_logprob_gap) == ("bfloat16", 0.5)
    assert make_plan(recipe("model.name_or_path=org/name", "model.dtype=float32")).model.dtype == "float32"
    asked = list(hub)
    preflight(loaded, tmp_path / "run")  # it is in the cache now
    assert hub == asked


def test_a_model_that_the_hub_has_not_got_is_one_line(recipe, hub, tmp_path):
    with pytest.raises(ValueError, match=r"can't be had from the Hugging Face Hub: HTTP Error 404: Not Found$"):
        preflight(recipe("model.name_or_path=org/other"), tmp_path / "run")


@pytest.mark.parametrize(
    ("model", "server", "sent"), [("/org/old", "127.0.0.1", "Bearer hf_mine"), ("/org/away", "localhost", None)]
)
def test_the_token_is_for_the_hub_alone(recipe, hub, tokens, tmp_path, monkeypatch, model, server, sent):
    """It goes along to a model's new name, and to no other server."""
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    preflight(recipe(f"model.name_or_path={model[1:]}", "rollout.engine=hf"), tmp_path / "run")
    assert tokens == [("127.0.0.1", model, "Bearer hf_mine"), (server, "/org/name", sent)]


NO_PICTURES = "llama is no image-text model, and cpt trains no other kind; name a model that reads pictures, such as"


def test_a_model_of_text_alone_is_refused_by_the_plan(recipe, model, tmp_path):
    (model / "config.json").write_text(json.dumps({"model_type": "llama", "dtype": "float32"}))
    with pytest.raises(ValueError, match=f"model {model}: {NO_PICTURES}"):
        make_plan(recipe())
    (model / "config.json").write_text(json.dumps({"model_type": "qwen2_5_vl", "dtype": "float32"}))
    (model_folder(tmp_path / "text") / "config.json").write_text(json.dumps({"model_type": "llama"}))
    kl = f"arms.grpo.kl={{reference: path, path: {tmp_path / 'text'}, coefficient: 0.1}}"
    with pytest.raises(ValueError, match=NO_PICTURES):
        make_plan(recipe(kl, "arms.grpo.sweep.beta=[0.0]"))


def test_a_model_of_text_alone_on_the_hub_is_refused_before_anything_starts(recipe, hub, tmp_path):
    loaded = recipe("model.name_or_path=org/text")
    with pytest.raises(ValueError, match=f"model org/text: {NO_PICTURES}"):
        preflight(loaded, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match=NO_PICTURES):  # its config.json is in the cache now
        make_plan(loaded)


def test_a_dtype_that_cannot_be_trained_in_is_refused(recipe, model):
    (model / "config.json").write_text(json.dumps({"model_type": "qwen2_5_vl", "dtype": "float16"}))
    with pytest.raises(ValueError, match=r"config\.json says float16; set model\.dtype to float32 or bfloat16"):
        make_plan(recipe())
    assert make_plan(recipe("model.dtype=bfloat16")).model.dtype == "bfloat16"


def test_engines_are_not_started_without_a_dtype(recipe, cache):
    plan = make_plan(recipe("model.name_or_path=org/name"))
    with pytest.raises(ValueError, match=r"auto needs the model's config\.json on this machine"):
        start_pool(plan.model, plan.recipe.rollout, Placement(0, 0))


@pytest.mark.parametrize(
    ("nbytes", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (123_456_789, "123 MB"), (5e12, "5.0 TB")]
)
def test_sizes_for_people(nbytes, text):
    assert size(nbytes) == text


def test_too_small_a_disk_is_refused(recipe, tmp_path, monkeypatch):
    plan = make_plan(recipe())
    needed = estimate_bytes(plan)
    assert needed is not None
    usage = type("Usage", (), {"free": needed - 1})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(ValueError, match=r"this run needs about .* are free; choose another, fewer"):
        check_room(plan, tmp_path / "run")
    # What an interrupted run has written already is not needed again.
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "records").write_bytes(b"x")
    check_room(plan, tmp_path / "run")


def test_preflight_creates_the_folder_and_nothing_else(recipe, tmp_path):
    preflight(recipe("rollout.engine=hf"), tmp_path / "a" / "run")
    assert list((tmp_path / "a").rglob("*")) == [tmp_path / "a" / "run"]


def test_preflight_refuses_what_cannot_run(recipe, tmp_path, model):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ValueError, match="can't be written"):
        preflight(recipe("rollout.engine=hf"), file / "run")
    with pytest.raises(ValueError, match="does not exist"):
        preflight(recipe("model.name_or_path=/nowhere/model"), tmp_path / "run")
    with pytest.raises(ValueError, match="can't be had from the Hugging Face Hub"):
        preflight(recipe("model.name_or_path=nobody/nothing"), tmp_path / "run")
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"model\.safetensors is cut off"):
        preflight(recipe(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_planning_imports_nothing_heavy(recipe, tmp_path):
    recipe()
    code = (
        "import sys; from cpt.plan.make import make_plan; from cpt.recipe import load_recipe;"
        f"make_plan(load_recipe({str(tmp_path / 'demo.yaml')!r}));"
        "print([name for name in ('torch', 'transformers', 'trl', 'ray', 'vllm', 'pyarrow') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
