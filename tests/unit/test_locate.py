"""Finding a model and noticing that its folder is not whole, from files alone."""

from __future__ import annotations

import json
import os
import random
import re
from pathlib import Path

import pytest
from folders import model_folder

from cpt.models.locate import (
    check_model_folder,
    checkpoint_tensors,
    config_dtype,
    fingerprint,
    locate_model,
    model_bytes,
    stated_length,
)
from cpt.tasks.world.builtin import MODELS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return model_folder(tmp_path / "model", {"a.weight": (2, 3), "b": (5,)})


def test_where_models_are(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert locate_model(str(folder)) == folder
    assert locate_model("model") == Path("model")
    assert locate_model("Qwen/Qwen2.5-VL-7B-Instruct") == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert locate_model("builtin/tiny-qwen2_5-vl") == MODELS["builtin/tiny-qwen2_5-vl"]


@pytest.mark.parametrize(
    ("config", "stated"),
    [
        ({"max_position_embeddings": 64}, 64),
        ({"text_config": {"max_position_embeddings": 32}, "max_position_embeddings": 64}, 32),
        ({"text_config": {}, "max_position_embeddings": 64}, None),
        ({"max_position_embeddings": "many"}, None),
        ({}, None),
    ],
)
def test_the_length_that_a_config_states(tmp_path, config, stated):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert stated_length(tmp_path) == stated


@pytest.mark.parametrize("name", ["/nowhere", "./nowhere", "nowhere", "a/b/c", "model/policy", "../x"])
def test_a_missing_folder_is_not_taken_for_a_model_on_the_hub(name, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # holds a folder `model`, which has no folder `policy`
    with pytest.raises(ValueError, match=f"model folder {name} does not exist"):
        locate_model(name)


def test_an_unknown_builtin_model_names_the_known():
    with pytest.raises(ValueError, match="known: builtin/tiny-qwen2_5-vl"):
        locate_model("builtin/tiny")


def test_a_whole_folder_passes_and_is_described(folder):
    check_model_folder(folder)
    tensors = checkpoint_tensors(folder)
    assert {name: (tensor.shape, tensor.nbytes) for name, tensor in tensors.items()} == {
        "a.weight": ((2, 3), 24),
        "b": ((5,), 20),
    }
    assert config_dtype(folder) == "float32"
    assert model_bytes(folder) == sum(file.stat().st_size for file in folder.iterdir())


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "llava", "gemma3", "smolvlm", "idefics3", "internvl", "paligemma"])
def test_models_that_read_pictures_pass(folder, kind):
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    check_model_folder(folder)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma3_text", "bert", "clip", "no-such-kind"])
def test_models_of_other_kinds_are_refused(folder, kind):
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(ValueError, match=f"model .*: {kind} is no image-text model"):
        check_model_folder(folder)
    own_code = {"AutoModelForImageTextToText": "modeling.Mine"}
    (folder / "config.json").write_text(json.dumps({"model_type": kind, "auto_map": own_code}))
    check_model_folder(folder)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(folder, missing):
    (folder / missing).unlink()
    with pytest.raises(ValueError, match=r"has no (processor or tokenizer files|config\.json|model\.safetensors)"):
        check_model_folder(folder)


@pytest.mark.parametrize("kept", [0, 4, 8, 40, -1])
def test_truncated_weights_are_noticed(folder, kept):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"model\.safetensors is cut off"):
        check_model_folder(folder)


def test_damage_is_noticed(folder):
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole + b"x")
    with pytest.raises(ValueError, match=r"model\.safetensors is cut off or damaged: .*not fully covered"):
        check_model_folder(folder)
    weights.write_bytes(whole[:8] + b"#" + whole[9:])
    with pytest.raises(ValueError, match=r"model\.safetensors is cut off or damaged: invalid JSON in header"):
        check_model_folder(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        check_model_folder(folder)


def test_shards_and_their_index(folder):
    whole = folder / "model.safetensors"
    whole.rename(folder / "model-00001-of-00002.safetensors")
    second = model_folder(folder.parent / "second", {"c": (1,)}) / "model.safetensors"
    weight_map = {"a.weight": "model-00001-of-00002.safetensors", "b": "model-00001-of-00002.safetensors"}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map | {"c": "model-00002-of-00002.safetensors"}}))
    with pytest.raises(ValueError, match=r"has no model-00002-of-00002\.safetensors"):
        check_model_folder(folder)
    second.rename(folder / "model-00002-of-00002.safetensors")
    check_model_folder(folder)
    assert set(checkpoint_tensors(folder)) == {"a.weight", "b", "c"}
    index.write_text(json.dumps({"weight_map": weight_map | {"d": "model-00002-of-00002.safetensors"}}))
    with pytest.raises(ValueError, match="names 1 tensors that no file holds, the first is d"):
        check_model_folder(folder)


def test_the_fingerprint_is_of_all_that_makes_the_model(folder, tmp_path):
    shapes = {"a.weight": (2, 3), "b": (5,)}
    assert fingerprint(model_folder(tmp_path / "same", shapes)) == fingerprint(folder)
    assert fingerprint(model_folder(tmp_path / "moved", shapes, fill=1)) != fingerprint(folder)
    before = fingerprint(folder)
    (folder / "README.md").write_text("a card")
    assert fingerprint(folder) == before
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert fingerprint(folder) != before


def test_the_fingerprint_misses_no_byte(tmp_path):
    folder = model_folder(tmp_path / "model", {"a.weight": (512, 512)})
    weights = folder / "model.safetensors"
    whole, before = weights.read_bytes(), fingerprint(folder)
    places = random.Random(0).sample(range(len(whole)), 200)
    for place in places:
        weights.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert fingerprint(folder) != before, place
    weights.write_bytes(whole)
    assert fingerprint(folder) == before
    (folder / "modeling_own.py").write_text("code that the recipe trusts")
    assert fingerprint(folder) != before


@pytest.mark.parametrize("name", ["~nosuchuser", "~nosuchuser/model", "x" * 5000])
def test_a_name_that_can_lead_nowhere_is_refused_in_a_line(name):
    with pytest.raises(ValueError, match="can't be looked for") as error:
        locate_model(name)
    assert "\n" not in str(error.value)


def put_link(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


def put_loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize("put", [put_link, put_loop, os.mkfifo])
@pytest.mark.parametrize("name", ["generation_config.json", "tokenizer.model", "config.json", "model.safetensors"])
def test_what_is_no_file_in_a_models_folder_is_named_and_does_not_hang(folder, name, put):
    (folder / name).unlink(missing_ok=True)
    put(folder / name)
    with pytest.raises(ValueError, match=re.escape(name)):
        check_model_folder(folder)
    with pytest.raises(ValueError, match=re.escape(name)):
        fingerprint(folder)


@pytest.mark.parametrize(
    "entry",
    [
        None,
        [],
        {},
        {"dtype": "F32", "shape": [2], "data_offsets": ["0", "8"]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0.0, 8.0]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0, True]},
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]},
        {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0]},
        {"dtype": "F32", "shape": [2], "data_offsets": 8},
        {"dtype": "F32", "shape": ["2"], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": None, "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]},
        {"dtype": 32, "shape": [2], "data_offsets": [0, 8]},
    ],
    ids=str,
)
def test_a_header_that_describes_no_tensor_is_refused(folder, entry):
    text = json.dumps({"w": entry}).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(ValueError, match=r"model\.safetensors is cut off or damaged: invalid "):
        check_model_folder(folder)


@pytest.mark.parametrize("header", [b"[]", b"null", b"7", b"[" * 10**5, b"\xff", b"9" * 5000])
def test_a_header_that_is_no_object_is_refused(folder, header):
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ValueError, match=r"model\.safetensors is cut off or damaged: invalid "):
        check_model_folder(folder)


def test_tensors_that_overlap_are_refused(folder):
    one = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    text = json.dumps({"v": one, "w": one}).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(ValueError, match=r"model\.safetensors is cut off or damaged: invalid offset for tensor"):
        checkpoint_tensors(folder)


@pytest.mark.parametrize("weight_map", [None, 7, [], {}, {"a": 7}, {"a": "../w"}, {"a": ""}], ids=str)
def test_an_index_that_names_no_files_of_the_folder_is_refused(folder, weight_map):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ValueError, match=r"index\.json( is damaged|; its weights are incomplete)"):
        check_model_folder(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "generation_config.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 10**5, b"9" * 5000])
def test_json_that_is_none_is_named(folder, name, content):
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        check_model_folder(folder)


@pytest.mark.parametrize("content", ["[]", "null", "{}", '{"model_type": 7}'])
def test_a_config_of_no_model_is_refused(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config\.json (is not a JSON object|names no model_type)"):
        check_model_folder(folder)
