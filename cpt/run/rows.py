"""Every sample that a run will read, looked at before anything starts.

What is found out here would otherwise stop a run in the middle, when its row comes: a picture that can't be read or
that the model's processor refuses, a chat that does not go with its pictures, a prompt that is too long for the model.

What it costs: `cpt run` makes every sample, a task at a time in memory; of a task over files its pictures' headers and
checksums are read, and none is decoded. `cpt plan` does so with the first ones of each split. What is read for keys
comes on top of that: of a task without a `fingerprint` every sample, in both (`cpt.tasks.fingerprint`). The model's
processor then sees the pictures of extreme shapes alone, blank ones of their size, and tokens are counted from sizes
and texts; only prompts near the limit are encoded in full. Samples of the built-in tasks for the built-in model are not
looked at: what they are is known, and tested.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from cpt.common.stored_pictures import sizes_of
from cpt.methods.sdft import SDFT
from cpt.plan.run_plan import RunPlan
from cpt.plan.stages import EvaluationPlan, ModelPlan, StagePlan
from cpt.rollout.limits import EngineKind, check_family
from cpt.run.reads import Read, Row, Use
from cpt.run.rows_fit import Fit, own_limit
from cpt.tasks import get_task, read_samples
from cpt.tasks.chat import check_blocks, checked_prompt, with_text
from cpt.tasks.metric import scale_of
from cpt.tasks.world import builtin
from cpt.types import PromptStyle, Sample, Split

FIRST = 32
"""Samples of each task and split that `cpt plan` checks; for keys it may read more (`cpt.tasks.fingerprint`)."""


def run_reads(plan: RunPlan) -> list[Read]:
    """All that a run reads: training samples of its stages, and the test samples of every evaluation."""
    found = [read for stage in plan.stages for read in stage_reads(stage)]
    for base in plan.bases:
        found += evaluation_reads(base.evaluation, base.prompt)
    return merged(found)


def stage_reads(stage: StagePlan) -> list[Read]:
    """What a stage trains on: its own samples and those that are replayed."""
    uses = [Use(stage.prompt, limit) for limit in stage.rollout_limits]
    if isinstance(stage.method, SDFT):
        uses.append(Use(stage.prompt, stage.max_completion_length, teacher=stage.method))
    if stage.method.type == "sft" and stage.method.data.type == "gold":
        uses.append(Use(stage.prompt, target=stage.method.target_style))
    return [Read(task, "train", stage.seed, n, tuple(uses) or (Use(stage.prompt),)) for task, n in stage.reads.items()]


def evaluation_reads(plan: EvaluationPlan, prompt: PromptStyle) -> list[Read]:
    """The first test samples of every task; of drift those are read again."""
    return [Read(task, "test", 0, n, (Use(prompt, plan.limits[task]),)) for task, n in plan.samples.items()]


def merged(reads: Iterable[Read]) -> list[Read]:
    """One of each task, split and seed: the longest, since a longer list begins with a shorter one."""
    found: dict[tuple[str, Split, int], Read] = {}
    for read in reads:
        key = (read.task, read.split, read.seed)
        if key in found:
            known = found[key]
            uses = tuple(dict.fromkeys((*known.uses, *read.uses)))
            read = replace(known, samples=max(known.samples, read.samples), uses=uses)
        found[key] = read
    return list(found.values())


def check_first_rows(reads: Sequence[Read]) -> None:
    """Looks at the first samples of every task that is not built in, without the model: the check of `cpt plan`.

    Raises:
        ValueError: see `check_rows`.
    """
    own = {task.name for task in builtin.tasks()}
    for read in reads:
        if read.task not in own:
            rows_of(replace(read, samples=min(read.samples, FIRST)))


def check_rows(
    reads: Sequence[Read], model: ModelPlan, max_model_len: int | None, engines: EngineKind | None = None
) -> int:
    """Looks at every sample.

    Args:
        max_model_len: tokens of prompt and completion that engines take (`rollout.max_model_len`); None for the
            model's own limit.
        engines: that will be asked; None for those of transformers.

    Returns:
        Number of pictures of the sample that has most, which engines must be ready for.

    Raises:
        ValueError: a sample can't be made or used; the message names it and says what to do. Those that a task does
            not get made are found one at a time, those that do not suit the model all at once. Or the model's family
            can't be asked with so many pictures (`cpt.rollout.limits`).
    """
    if known_to_fit(reads, model, max_model_len):
        return 1
    print(f"checking {sum(read.samples for read in reads)} samples of {len({r.task for r in reads})} tasks", flush=True)
    fit = Fit(model, max_model_len)
    pictures: dict[int, str] = {}  # number → the first sample with so many
    for read in reads:
        rows = rows_of(read)
        for row in rows:
            pictures.setdefault(len(row.sizes), row.sample)
        fit.add(read, rows)
    kind = engines or EngineKind("hf", gpu=False)
    check_family(model.path, kind.name, gpu=kind.gpu, pictures=[(sample, n) for n, sample in pictures.items()])
    fit.check()
    return max(pictures, default=0)


def known_to_fit(reads: Sequence[Read], model: ModelPlan, max_model_len: int | None) -> bool:
    """Whether all is built in, and no limit is set so that it would not fit."""
    names = {task.name for task in builtin.tasks()}
    uses = [use for read in reads for use in read.uses]
    if (
        model.name not in builtin.MODELS
        or any(read.task not in names for read in reads)
        or any(use.teacher for use in uses)
    ):
        return False
    own = own_limit(model)
    limit = own if max_model_len is None or own is None else min(max_model_len, own)
    longest = max(use.new_tokens or 0 for use in uses)
    return limit is not None and 2 * builtin.MAX_PROMPT_TOKENS + longest <= limit


def rows_of(read: Read) -> list[Row]:
    """The samples as rows, after the checks that need no model. ValueError names the sample, or the task."""
    task = get_task(read.task)
    scale_of(task)
    samples = read_samples(task, read.split, read.samples, read.seed)
    return [_row(read, sample) for sample in samples]


def _row(read: Read, sample: Sample) -> Row:
    task = get_task(read.task)
    plain: dict[PromptStyle, list[dict[str, Any]]] = {}
    for prompt in {use.prompt for use in read.uses}:
        if read.split == "train":
            plain[prompt] = checked_prompt(task, sample, prompt)
        else:
            plain[prompt] = task.messages(sample, prompt)
            check_blocks(sample, plain[prompt])
    chats, targets = [], []
    for use in read.uses:
        chat = plain[use.prompt]
        if use.teacher is not None:
            chat = with_text(chat, use.teacher.shown(task.target(sample, use.teacher.target_style, use.prompt)))
        chats.append(chat)
        targets.append("" if use.target is None else task.target(sample, use.target, use.prompt))
    return Row(sample.id, sizes_of(sample.images), tuple(chats), tuple(targets))
