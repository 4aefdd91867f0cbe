"""Whether engines and trainer mean the same policy: after a push, on a few prompts with pictures, for every method.

Rollouts compare log-probabilities at every step, but SFT has none, and evaluation needs no trainer: pictures that only
one of both turns, other tokens, or weights that did not arrive would change numbers and nothing else. So the engines'
greedy answers to a few test prompts are scored by the transformers model in the process that has it anyway.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cpt.models.inputs import ModelInputs, Pictures, Prompt
from cpt.models.load import load_policy, load_processor
from cpt.models.precision import MOST, excess, in_float32, logit_noise
from cpt.plan.make import logprob_bound
from cpt.plan.stages import finished_version
from cpt.rollout.encode import render_prompts
from cpt.rollout.engine import banned_tokens
from cpt.rollout.sync import read_folder
from cpt.tasks import get_task
from cpt.tasks.likelihood import has_prompt
from cpt.types import Completion, GenerationRequest, PromptStyle, Sample, SamplingParams

if TYPE_CHECKING:
    from cpt.plan.stages import BasePlan, StagePlan
    from cpt.recipe import Rollout
    from cpt.rollout.pool import RolloutPool

PROMPTS = 4  # with pictures, of different tasks where there are so many
TOKENS = 8  # of each answer, at most
_CLEARLY = 3  # times as large is no coincidence


@dataclass(frozen=True)
class Asked:
    """One prompt: its sample, token ids, and pictures as the engines read them."""

    sample: Sample
    ids: list[int]
    pictures: Pictures

    def request(self, *, pictures: bool = True) -> GenerationRequest:
        """To an engine; without its pictures and their tokens where they are left out."""
        if pictures:
            return GenerationRequest(self.ids, tuple(self.sample.images), 0)
        return GenerationRequest([token for token in self.ids if token != self.pictures.made_by.image], (), 0)


@dataclass(frozen=True)
class Terms:
    """What is compared, and how near it has to be.

    Attributes:
        where: what is evaluated, for the message.
        samples: of each task, how many test samples are evaluated.
        max_tokens: of an answer in evaluation, of the task with the lowest limit.
        bound: in nats per token.
        relative: whether the engines compute in bfloat16, and the difference has to be what that explains, too.
    """

    where: str
    samples: Mapping[str, int]
    prompt: PromptStyle
    max_tokens: int
    bound: float
    relative: bool = False


def terms_of(where: str, planned: StagePlan | BasePlan) -> Terms:
    """Of the evaluation after a stage, or of the base model's."""
    evaluation, rollout, dtype = planned.evaluation, planned.rollout, planned.model.dtype
    bound, relative = logprob_bound(rollout, dtype), judged_by_rounding(dtype, rollout)
    shortest = min(evaluation.limits.values())
    return Terms(where, evaluation.samples, planned.prompt, shortest, bound, relative)


def check_agreement(terms: Terms, model: Any, processor: Any, pool: RolloutPool, version: str) -> float:
    """Compare, and return the largest difference in nats per token.

    Args:
        model: without adapters, on its device. In bfloat16, or with float32 weights that are trained in bfloat16.
        version: of the weights that the engines hold: those of `model`.

    Raises:
        ValueError: they disagree. The message names the sample, and says whether it is tokens, pixels or weights.
    """
    inputs = ModelInputs(processor, model)
    asked = _asked(inputs, terms.samples, terms.prompt)
    training = model.training
    model.eval()
    try:
        gap = 0.0
        params = SamplingParams(min(terms.max_tokens, TOKENS), temperature=0.0)
        answers = pool.generate([one.request() for one in asked], params, version=version)
        for one, (answer,) in zip(asked, answers, strict=True):
            found = _compare(model, inputs, one, answer, terms.relative)
            gap = max(gap, found.gap)
            if not found.within(terms.bound):
                blind = one.request(pictures=False)
                ((other,),) = pool.generate([blind], params, version=version)
                without = Asked(one.sample, list(blind.prompt_ids), Pictures(inputs))
                again = _compare(model, inputs, without, other, terms.relative)
                raise ValueError(_message(terms.where, one, found, again, terms.bound))
    finally:
        model.train(training)
    return gap


def check_folder(terms: Terms, folder: Path, policy: Any, processor: Any, pool: RolloutPool, version: str) -> float:
    """`check_agreement` of a finished policy, in memory and as its folder gives it to the engines.

    Evaluation finds the weights there by their version. They are pushed in any case: what the engines may hold under
    that version is the policy of a process that died before it could say that it was done.
    """
    pool.push(read_folder(folder), version)
    return check_agreement(terms, policy, processor, pool, version)


def check_base(base: BasePlan, pool: RolloutPool) -> float:
    """`check_agreement` of the base model, loaded for it."""
    path = base.model.path
    model: Any = load_policy(path, dtype=base.model.dtype, **base.model.loading)
    model = model.to("cuda" if torch.cuda.is_available() else "cpu").requires_grad_(False)
    processor = load_processor(path, trust_remote_code=base.model.trust_remote_code)
    version = pool.push_folder(path, finished_version(base.key))
    return check_agreement(terms_of("the base model", base), model, processor, pool, version)


def judged_by_rounding(dtype: str, rollout: Rollout) -> bool:
    """Whether a difference has to be what precision explains: in bfloat16, unless the recipe sets a bound."""
    return dtype == "bfloat16" and rollout.max_logprob_gap is None


def _asked(inputs: ModelInputs, samples: Mapping[str, int], prompt: PromptStyle) -> list[Asked]:
    """Prompts with pictures, one task after the other; without if no task has any.

    Raises:
        ValueError: token ids and pictures give another input than the rendered prompt does.
    """
    named = [(get_task(name), min(count, PROMPTS)) for name, count in samples.items()]
    tasks = [(task, task.samples("test", count)) for task, count in named if has_prompt(task)]
    turns = [(task, own[turn]) for turn in range(PROMPTS) for task, own in tasks if turn < len(own)]
    chosen = [one for one in turns if one[1].images][:PROMPTS] or turns[:PROMPTS]
    texts = render_prompts(inputs.processor, [task.messages(sample, prompt) for task, sample in chosen])
    images = [sample.images for _, sample in chosen]
    read, engines = list(inputs.read(texts, images)), inputs.pictures(images)
    for (_, sample), ours, theirs in zip(chosen, read, engines, strict=True):
        _same_inputs(inputs, sample, ours, theirs)
    rows = zip(chosen, read, engines, strict=True)
    return [Asked(sample, prompt.ids, pictures) for (_, sample), prompt, pictures in rows]


def _same_inputs(inputs: ModelInputs, sample: Sample, ours: Prompt, theirs: Pictures) -> None:
    try:
        inputs.check(ours.ids, theirs)
    except ValueError as error:
        raise ValueError(f"sample {sample.id}: {error}") from None
    mine = ours.pictures.tensors
    if mine.keys() != theirs.tensors.keys() or not all(mine[name].equal(theirs.tensors[name]) for name in mine):
        name = type(inputs.processor).__name__
        raise ValueError(
            f"sample {sample.id}: {name} makes other pixels of its pictures with the prompt's text than without it; "
            "such a processor can't be used"
        )


@dataclass(frozen=True)
class Difference:
    """Between two computations of an answer's log-probabilities.

    Attributes:
        gap: the largest one, in nats per token.
        excess: all of them, in units of what bfloat16 explains; 0 where that is not asked for.
    """

    gap: float
    excess: float

    def within(self, bound: float) -> bool:
        """Whether precision explains it."""
        return self.gap <= bound and self.excess <= MOST

    def size(self) -> float:
        """To compare two of one kind."""
        return self.excess or self.gap

    def __str__(self) -> str:
        if self.excess:
            return f"{self.gap:.3g} nats per token, all in all {self.excess:.1f} times what bfloat16 explains"
        return f"{self.gap:.3g} nats per token"


def _compare(model: Any, inputs: ModelInputs, one: Asked, answer: Completion, relative: bool) -> Difference:
    ids = torch.tensor([[*one.ids, *answer.token_ids]], device=model.device)
    said = torch.arange(ids.shape[1], device=ids.device)[None] >= len(one.ids)
    vision = inputs.vision([one.pictures], ids.device, model.dtype)
    arguments = inputs.batch(ids, torch.ones_like(ids), vision, said)
    half = torch.autocast(ids.device.type, torch.bfloat16) if relative and model.dtype != torch.bfloat16 else None
    with torch.no_grad():
        with half or nullcontext():
            logits = _answered(model(**arguments).logits, len(one.ids))
        logps = _logps(logits, model, answer)
        difference = (torch.tensor(answer.logprobs, device=ids.device) - logps).abs()
        gap = float(difference.max()) if len(difference) else 0.0
        if not relative:
            return Difference(gap, 0.0)
        with in_float32(model):
            exact = _answered(model(**arguments).logits, len(one.ids))
    return Difference(gap, excess(difference, logps, logit_noise(logits, exact)))


def _answered(logits: torch.Tensor, prompt: int) -> torch.Tensor:
    return logits[0, prompt - 1 : -1].float()


def _logps(logits: torch.Tensor, model: Any, answer: Completion) -> torch.Tensor:
    scores = logits.clone()
    scores[:, list(banned_tokens(model.config))] = -torch.inf
    chosen = torch.tensor(answer.token_ids, device=logits.device)[:, None]
    return scores.log_softmax(-1).gather(1, chosen)[:, 0]


def _message(where: str, one: Asked, found: Difference, blind: Difference, bound: float) -> str:
    """Which it is: without its pictures a prompt has the same weights and no pixels."""
    cause = "they hold other weights, or compute something else"
    if one.sample.images and blind.size() < found.size() / _CLEARLY:
        cause = (
            f"they see other pixels, for without its {len(one.sample.images)} pictures it is {blind.gap:.1g}: look at "
            "the pictures' orientation and transparency, and at the processor's settings"
        )
    elif one.sample.images:
        cause += f", for without its {len(one.sample.images)} pictures it is {blind.gap:.1g}"
    limit = f"more than {bound:g}" if not found.gap <= bound else f"more than {MOST:g} times"
    return (
        f"{where}: sample {one.sample.id}: log-probabilities of engine and trainer differ by {found}, {limit}; {cause}."
        " If the precision explains it, rollout.max_logprob_gap sets another bound"
    )
