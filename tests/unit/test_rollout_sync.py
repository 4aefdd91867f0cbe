"""Weights survive the way to the engines unchanged, and a change on the way is noticed."""

from __future__ import annotations

import pickle

import pytest

torch = pytest.importorskip("torch")

from cpt.rollout.sync import check_fingerprint, fingerprint, pack, read_folder, unpack  # noqa: E402


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "a.weight": torch.randn(5, 3),
        "b.weight": torch.randn(4, 2).bfloat16(),
        "c.scalar": torch.tensor(3.5),
        "d.steps": torch.arange(4),
        "e.turned": torch.randn(3, 7).t(),
    }


def test_round_trip_is_exact_in_every_dtype():
    given = tensors()
    back = dict(unpack(pickle.loads(pickle.dumps(pack(given.items()), protocol=5))))
    assert back.keys() == given.keys()
    for name, tensor in given.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor)


def test_packed_weights_are_copies():
    """PEFT's iterator takes the merged weights back as soon as it has yielded them."""
    weight = torch.ones(3)
    packed = pack([("w", weight)])
    weight.zero_()
    assert dict(unpack(packed))["w"].tolist() == [1, 1, 1]


def test_cast_to_the_engines_precision_spares_integers():
    packed = dict(unpack(pack(tensors().items(), "bfloat16")))
    assert {name: tensor.dtype for name, tensor in packed.items()} == {
        "a.weight": torch.bfloat16,
        "b.weight": torch.bfloat16,
        "c.scalar": torch.bfloat16,
        "d.steps": torch.int64,
        "e.turned": torch.bfloat16,
    }


def test_fingerprint_sees_values_names_shapes_and_absence():
    given = tensors()
    mark = fingerprint(pack(given.items()))
    assert mark == fingerprint(pack(reversed(list(given.items()))))  # order does not matter
    changed = {**given, "a.weight": given["a.weight"] + 1e-6}
    renamed = {("z.weight" if name == "a.weight" else name): tensor for name, tensor in given.items()}
    reshaped = {**given, "a.weight": given["a.weight"].view(3, 5)}
    fewer = {name: tensor for name, tensor in given.items() if name != "b.weight"}
    assert len({mark, *(fingerprint(pack(x.items())) for x in (changed, renamed, reshaped, fewer))}) == 5
    check_fingerprint(pack(given.items()), mark)
    with pytest.raises(ValueError, match=mark):
        check_fingerprint(pack(fewer.items()), mark)


def test_a_folder_is_read_under_its_own_names(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.ones(2)}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"y": torch.zeros(3)}, tmp_path / "model-00002-of-00002.safetensors")
    assert {name: tensor.tolist() for name, tensor in read_folder(tmp_path)} == {"x": [1, 1], "y": [0, 0, 0]}
    with pytest.raises(ValueError, match="safetensors"):
        list(read_folder(tmp_path / "missing"))
