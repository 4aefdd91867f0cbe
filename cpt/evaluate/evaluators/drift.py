"""How far a finished stage has moved the policy from the base model in what it says (see `cpt.evaluate.drift`).

Completions come from the rollout pool, one per prompt from either policy; both models then score all of them. The
same prompts, and the same random stream for a prompt, serve every arm, stage and side: what differs is the policy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.evaluate.drift import DriftRow, write_drift
from cpt.evaluate.evaluators.asking import Prompt, complete
from cpt.evaluate.evaluators.base import Engines, Subject
from cpt.methods.divergence import completion_kl
from cpt.models.inputs import ModelInputs
from cpt.models.load import load_policy, load_processor
from cpt.rollout.encode import encode_prompts
from cpt.rollout.engine import banned_tokens, request_seed
from cpt.store.folder import StageDir
from cpt.tasks import get_task
from cpt.tasks.likelihood import has_prompt
from cpt.types import Sample, Task

if TYPE_CHECKING:
    import torch

# What goes through the models at once: tokens, and numbers in the logits of one of them (256 MB in bfloat16).
_TOKENS = 1 << 13
_LOGITS = 1 << 27


@dataclass(frozen=True)
class Said:
    """One prompt and what the two policies sampled after it, as token ids."""

    task: Task
    group: str
    sample: Sample
    prompt: list[int]
    base: list[int]
    policy: list[int]


class DriftEvaluator:
    """Completions of either policy for the same prompts, and both models' divergence over them: drift.parquet."""

    name = "drift"
    version = 1
    phase = "drift"
    needs_engines = True
    needs_model = True

    def measures(self, subject: Subject) -> dict[str, Any] | None:
        """Whose prompts, what is in them, and how many tokens after each; nothing where the recipe asks for none."""
        if not subject.drift.samples:
            return None
        groups = {group: list(names) for group, names in subject.drift.groups.items()}
        samples, evaluation = dict(subject.drift.samples), subject.evaluation
        data = {name: evaluation.data[name] for name in samples}
        limits = {name: evaluation.limits[name] for name in samples}
        return {"groups": groups, "samples": samples, "data": data, "limits": limits}

    def files(self, out: StageDir) -> list[Path]:
        """See `Evaluator.files`."""
        return [out.drift]

    def run(self, subject: Subject, pool: Engines) -> dict[str, Any]:
        """One row per prompt. Both models are in the precision that the engines sample and evaluate them in.

        The engines are left with the base model's weights.
        """
        rows = measure_drift(subject, pool)
        write_drift(subject.out.drift, rows)
        return {"prompts": len(rows)}


def measure_drift(subject: Subject, pool: Engines) -> list[DriftRow]:
    """One row per prompt that `subject.drift` asks for, in their order."""
    import torch

    model = subject.model
    processor = load_processor(model.path, trust_remote_code=model.trust_remote_code)
    said = _sample(subject, processor, pool)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    base: Any = load_policy(model.path, dtype=model.dtype, **model.loading)
    dtype = str(base.dtype).removeprefix("torch.")
    moved: Any = load_policy(subject.folder, dtype=dtype, **model.loading)
    models = [one.to(device).eval().requires_grad_(False) for one in (base, moved)]
    rows: list[DriftRow] = []
    for batch in _batches(said, base.config.get_text_config().vocab_size):
        forward, reverse = _divergences(models[0], models[1], processor, batch)
        rows += [
            DriftRow(one.task.name, one.group, one.sample.id, there, back, len(one.base), len(one.policy))
            for one, there, back in zip(batch, forward, reverse, strict=True)
        ]
    places = {one.sample.id: place for place, one in enumerate(said)}
    return sorted(rows, key=lambda row: places[row.sample_id])


def _sample(subject: Subject, processor: Any, pool: Engines) -> list[Said]:
    """A completion of either policy for every prompt, at temperature 1 and within evaluation's limit of tokens."""
    items: list[tuple[Task, str, Sample]] = []
    for group, names in subject.drift.groups.items():
        for task in filter(has_prompt, map(get_task, names)):
            items += [(task, group, sample) for sample in task.samples("test", subject.drift.samples[task.name])]
    chats = [task.messages(sample, subject.prompt) for task, _, sample in items]
    encoded = encode_prompts(processor, chats, [sample.images for *_, sample in items])
    limits = subject.evaluation.limits
    prompts = [
        Prompt(ids, sample.images, limits[task.name], request_seed("drift", subject.seed, sample.id))
        for ids, (task, _, sample) in zip(encoded, items, strict=True)
    ]
    spoken = []
    for folder, version in ((subject.folder, subject.version), (subject.model.path, f"{subject.key}:drift:base")):
        pool.push_folder(folder, version)
        spoken.append([one.token_ids for one in complete(pool, version, prompts, temperature=1.0)])
    policy, base = spoken
    return [Said(task, group, sample, encoded[i], base[i], policy[i]) for i, (task, group, sample) in enumerate(items)]


def _batches(said: Sequence[Said], vocabulary: int) -> Iterator[list[Said]]:
    """Prompts of one task at a time, alike in length, as many as fit through a model together."""
    for task in dict.fromkeys(one.task.name for one in said):
        own = sorted((one for one in said if one.task.name == task), key=lambda one: len(one.prompt))
        longest = max(len(ids) for one in own for ids in (one.base, one.policy))
        tokens = len(own[-1].prompt) + 2 * longest
        size = max(1, min(_TOKENS // tokens, _LOGITS // (2 * longest * vocabulary)))
        for start in range(0, len(own), size):
            yield own[start : start + size]


def _divergences(base: Any, policy: Any, processor: Any, batch: Sequence[Said]) -> tuple[list[float], list[float]]:
    """KL(base ‖ policy) over the base's completions and KL(policy ‖ base) over the policy's, in nats per completion."""
    import torch

    prompts = _prompts(base, processor, batch)
    completions = [ids for one in batch for ids in (one.base, one.policy)]
    longest = max(map(len, completions))
    pad = torch.tensor([ids + [0] * (longest - len(ids)) for ids in completions], device=base.device)
    lengths = torch.tensor([len(ids) for ids in completions], device=base.device)
    mask = torch.arange(longest, device=base.device) < lengths[:, None]
    with torch.inference_mode():
        of_base, of_policy = (_logits(model, prompts, pad, mask) for model in (base, policy))
        banned = banned_tokens(base.config)
        forward = completion_kl(of_base[::2], of_policy[::2], mask[::2], banned)
        reverse = completion_kl(of_policy[1::2], of_base[1::2], mask[1::2], banned)
    return forward.tolist(), reverse.tolist()


def _logits(model: Any, prompts: dict[str, torch.Tensor], ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What a model predicts for each of R · n completion tokens [R · n, C, V], where R prompts have n completions each.

    A prompt, which is longer than an answer, and its pictures go through the model once for all its completions.

    Args:
        prompts: see `_prompts`.
        ids, mask: [R · n, C], neighbours with the same prompt, padded on the right.
    """
    import torch

    before = prompts["attention_mask"]
    n = len(ids) // len(before)
    output = model(**prompts, use_cache=True, logits_to_keep=1)
    position = before.sum(1)
    if "position_ids" not in prompts:
        position = position + output.rope_deltas.flatten()
    first = output.logits.repeat_interleave(n, 0)
    cache = output.past_key_values
    cache.batch_repeat_interleave(n)
    rest = model(
        input_ids=ids,
        attention_mask=torch.cat([before.repeat_interleave(n, 0), mask.to(before.dtype)], dim=1),
        position_ids=position.repeat_interleave(n)[:, None] + torch.arange(ids.shape[1], device=ids.device),
        past_key_values=cache,
        use_cache=True,
    ).logits
    return torch.cat([first, rest[:, :-1]], dim=1)


def _prompts(model: Any, processor: Any, batch: Sequence[Said]) -> dict[str, torch.Tensor]:
    """The model's arguments for R prompts, padded on the left as in training on rollouts."""
    inputs = ModelInputs(processor, model)
    pictures = inputs.pictures([one.sample.images for one in batch])
    return inputs.prompts([one.prompt for one in batch], pictures, model.device, model.dtype)
