"""Where a step calls plug-ins and the stopwatch, and what completes a checkpoint."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from cpt.methods.plugin import Plugin  # noqa: E402
from cpt.train.hooks import Checkpoints, StageTrainer  # noqa: E402
from cpt.train.plugin_terms import PluginTerms  # noqa: E402
from cpt.train.resume import LIST, Found, Origin, last_checkpoint  # noqa: E402


class Backward:
    """In the place of transformers' trainer: a backward pass, and the callbacks it would call."""

    def __init__(self, processes: int = 1, model: Any = None) -> None:
        self.model = model
        self.accelerator = SimpleNamespace(
            num_processes=processes, sync_gradients=False, unwrap_model=lambda wrapped: wrapped
        )
        self.is_fsdp_enabled = self.is_deepspeed_enabled = False
        self._metrics: Any = {"train": defaultdict(list)}
        self.callbacks: list[Any] = []

    def add_callback(self, callback: Any) -> None:
        self.callbacks.append(callback)

    def training_step(self) -> str:
        return self.phases.innermost  # type: ignore[attr-defined, no-any-return]


class Trainer(StageTrainer, Backward):
    pass


class Watches(Plugin):
    """Notes when it is called; its penalty is the square of a parameter."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.parameter = torch.nn.Parameter(torch.tensor(3.0))

    def penalty(self) -> Any:
        self.calls.append("penalty")
        return self.parameter.square()

    def after_backward(self) -> None:
        self.calls.append(f"gradient {self.parameter.grad}")

    def after_step(self) -> None:
        self.calls.append("step")

    def metrics(self) -> dict[str, float]:
        return {"calls": float(len(self.calls))}


def test_plugins_come_after_the_last_backward_pass_and_after_the_optimizer():
    watches = Watches()
    trainer = Trainer(plugins=PluginTerms({"it": watches}))
    (after,) = trainer.callbacks
    assert trainer.training_step() == "forward_backward"
    assert watches.calls == [] and trainer.phases.innermost is None  # the first of two micro-batches
    trainer.accelerator.sync_gradients = True
    trainer.training_step()
    assert watches.calls == ["penalty", "gradient 6.0"]
    assert trainer._metrics["train"] == {"plugin/it/calls": [2.0]}
    assert trainer.phases.innermost == "optimizer"
    after.on_optimizer_step()
    assert watches.calls[2:] == ["step"] and trainer.phases.innermost is None
    assert trainer.phases.take().keys() == {"forward_backward", "plugins", "optimizer", "rest"}


def test_what_objectives_have_observed_is_logged_with_the_step():
    told = iter([{"objective/a/weight": 1.0}, {}])
    trainer = Trainer(objectives=SimpleNamespace(take_metrics=lambda: next(told)))
    trainer.training_step()
    trainer.training_step()
    assert trainer._metrics["train"] == {"objective/a/weight": [1.0]}


def test_numbers_may_be_tensors():
    trainer = Trainer()
    trainer.record({"a": 1.0, "b": torch.tensor(2.0), "c": torch.tensor(0.5)})
    trainer.record({"b": torch.tensor(3.0)})
    assert trainer._metrics["train"] == {"a": [1.0], "b": [2.0, 3.0], "c": [0.5]}


def test_several_processes_are_refused():
    with pytest.raises(ValueError, match="a stage is trained by one process"):
        Trainer(processes=2)


class Remembers(Plugin):
    note = ""

    def save(self, folder: Path) -> None:
        (folder / "note").write_text(self.note)

    def load(self, folder: Path) -> None:
        self.note = (folder / "note").read_text()


def saved(folder: Path, step: int, callback: Checkpoints) -> Path:
    """A checkpoint, and what the callback adds."""
    path = folder / f"checkpoint-{step}"
    Trainer(model=torch.nn.Linear(1, 1)).save_model(str(path))
    callback.on_save(SimpleNamespace(output_dir=str(folder)), SimpleNamespace(global_step=step), None)
    return path


def test_a_checkpoint_holds_what_is_trained_and_nothing_else(tmp_path: Path):
    model, again = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    for one in (model, again):
        one.bias.requires_grad_(False)
    kept = again.bias.clone()
    Trainer(model=model).save_model(str(tmp_path))
    Trainer(model=again)._load_from_checkpoint(str(tmp_path))
    assert again.weight.equal(model.weight) and again.bias.equal(kept) and again.weight.requires_grad
    other: Any = torch.nn.Linear(2, 1)  # trains its bias, too
    with pytest.raises(AssertionError, match="a checkpoint of this stage has what this stage trains"):
        Trainer(model=other)._load_from_checkpoint(str(tmp_path))


def test_a_checkpoint_is_whole_when_it_has_what_plugins_keep(tmp_path: Path):
    origin, plugin = Origin("key"), Remembers()
    callback = Checkpoints(origin, {"it": plugin}, 2, None)
    for step in (2, 4, 6):
        plugin.note = f"at {step}"
        path = saved(tmp_path, step, callback)
        assert (path / LIST).is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-4", "checkpoint-6"]
    assert last_checkpoint(tmp_path, ["it"], origin) == Found(tmp_path / "checkpoint-6", 6)
    again = Remembers()
    Checkpoints(origin, {"it": again}, 2, tmp_path / "checkpoint-4").on_train_begin()
    assert again.note == "at 4"
    fresh = Remembers()
    Checkpoints(origin, {"it": fresh}, 2, None).on_train_begin()
    assert fresh.note == ""
