"""What is wrong with an arm's `replay:` and `schedule:` that their types allow."""

from __future__ import annotations

from collections.abc import Iterator

from cpt.common.nearest import nearest
from cpt.methods.replay import Mixed, RecapReplay, Static
from cpt.recipe.arm_spec import ArmSpec, Problem
from cpt.recipe.reward_checks import reward_of
from cpt.recipe.schema import Recipe
from rewards.compose import label_of


def check_replay(recipe: Recipe, spec: ArmSpec) -> Iterator[Problem]:
    """Problems of one arm, with paths below the arm."""
    replay = spec.replay
    if replay is None:
        return
    if spec.schedule != "sequential":
        yield ("replay",), f"a {spec.schedule} arm has no finished tasks; remove it, or set schedule: sequential"
        return
    if spec.method.type == "sdft" and isinstance(replay, RecapReplay | Static):
        yield ("replay", "type"), f"{replay.type} weighs rewards, and SDFT's loss has none; set type: buffer"
        return
    yield from _sources(recipe, spec, replay)
    yield from _loss(spec, replay)
    if isinstance(replay, RecapReplay | Static) and spec.method.type == "sft" and spec.method.loss_type != "nll":
        yield ("replay",), "weights act on the negative log-likelihood; set method.loss_type: nll"
    if isinstance(replay, RecapReplay | Static) and spec.method.needs_rollouts:
        yield from _components(recipe, spec)
    if isinstance(replay, RecapReplay) and spec.method.save_steps and spec.method.logging_steps > 1:
        yield ("replay",), "a stage that goes on finds its weights in metrics.jsonl; set method.logging_steps: 1"
    if isinstance(replay, RecapReplay):
        yield from _recap(recipe, spec, replay)
    if isinstance(replay, RecapReplay) and replay.weigh == "advantages":
        paying = [one.type for one in (*spec.regularisers, spec.kl) if one is not None and one.needs_rollouts]
        if paying:
            yield (
                ("replay", "weigh"),
                f"advantages are those of the reward's own components, without what {paying[0]} adds; set weigh: "
                "rewards",
            )
        if not spec.method.needs_rollouts:
            yield ("replay", "weigh"), "SFT has no advantages; leave it out"
        elif spec.method.type == "remax":
            yield ("replay", "weigh"), "ReMax's greedy baseline has no components; set weigh: rewards"
    if isinstance(replay, Static):
        yield from _static(recipe, spec, replay)


def _recap(recipe: Recipe, spec: ArmSpec, replay: RecapReplay) -> Iterator[Problem]:
    """What `mode: paper` has no use for, and a window that never fills, so that every weight stays 1."""
    if replay.mode != "paper":
        return
    if replay.alpha is not None:
        yield ("replay", "alpha"), "is not in mode: paper, whose score is c + i; leave it out, or set mode: paper-v1"
    most = max(_values(recipe, spec, replay, stage) for stage in range(1, len(recipe.tasks) + 1))
    if 0 < most < 2 * replay.window:
        yield (
            ("replay", "window"),
            f"weights move once every objective has 2 × {replay.window} values, and no stage gives its rarest one more "
            f"than {most}; set {most // 2} or less, or train longer"
            if most > 1
            else f"no stage gives its rarest objective the 2 × {replay.window} values that move weights; train longer",
        )


def _values(recipe: Recipe, spec: ArmSpec, replay: RecapReplay, stage: int) -> int:
    """Steps in which a stage's rarest objective takes part; 0 if the stage replays nothing."""
    others = len(replay.tasks) + (stage - 1 if replay.finished else 0)
    task = recipe.tasks[stage - 1]
    steps = spec.method.steps(task.samples or recipe.data.samples)
    batches = steps if replay.loss == "supervised" else steps // spec.method.batch().steps
    if not others or replay.sampler != "uniform":
        return batches if others else 0
    return batches // (others if replay.loss == "supervised" else others + 1)


def _static(recipe: Recipe, spec: ArmSpec, replay: Static) -> Iterator[Problem]:
    """Weights that belong to nothing, and would be left unused in silence."""
    known = [*recipe.task_names, *replay.tasks]
    for name in replay.weights:
        source, _, part = name.partition("/")
        if source not in known:
            yield ("replay", "weights", name), f"is no source of this arm{nearest(name, known)}"
        elif part and not spec.method.needs_rollouts:
            yield ("replay", "weights", name), f"SFT has no components of a reward; write {source}"
        elif part and part not in (parts := _parts(recipe, spec, source)):
            yield ("replay", "weights", name), f"is no component of {source}'s reward{nearest(part, parts)}"
    objectives = known
    if spec.method.needs_rollouts:
        objectives = [f"{source}/{part}" for source in known for part in _parts(recipe, spec, source)]
    if objectives and not any(replay.weight(name) for name in objectives):
        yield ("replay", "weights"), "are 0 for everything, so that nothing would be learned; raise one"


def _parts(recipe: Recipe, spec: ArmSpec, task: str) -> list[str]:
    """Components of what the arm is paid for on a task that the recipe trains or replays."""
    from cpt.tasks import get_task, read_samples, task_names

    stage = next((one for one in recipe.tasks if one.name == task), None)
    reward = None if stage is None else reward_of(recipe, spec, stage)
    if reward is not None:
        return [label_of(one) for one in reward.data()]
    if task not in task_names():
        return []
    known = get_task(task)
    sample = read_samples(known, "train", 1)[0]
    return list(known.reward(sample, known.target(sample, "policy", spec.prompt), spec.prompt).parts)


def _components(recipe: Recipe, spec: ArmSpec) -> Iterator[Problem]:
    """Components that would be paid for although the reward has them cost something, or nothing."""
    paid = [reward_of(recipe, spec, task) for task in recipe.tasks]
    against = {label_of(one): one["weight"] for reward in paid if reward for one in reward.data() if one["weight"] <= 0}
    for label, weight in against.items():
        yield (
            ("replay",),
            f"its weights stand in place of the reward's own, so {label} would be paid for instead of having weight "
            f"{weight:g}; leave that component out, or use type: buffer",
        )


def _sources(recipe: Recipe, spec: ArmSpec, replay: Mixed) -> Iterator[Problem]:
    from cpt.tasks import task_names

    for i, name in enumerate(replay.tasks):
        if name not in task_names():
            yield ("replay", "tasks", i), f"unknown task {name!r}{nearest(name, task_names())}"
        elif name in replay.tasks[:i]:
            yield ("replay", "tasks", i), f"{name!r} stands here twice"
        elif name in recipe.task_names:
            yield (
                ("replay", "tasks", i),
                f"{name!r} is a stage; `finished: true` replays it once its stage is over",
            )
    if replay.tasks or (replay.finished and len(recipe.tasks) > 1):
        return
    one = not spec.method.needs_rollouts or all(len(_parts(recipe, spec, name)) == 1 for name in recipe.task_names)
    if isinstance(replay, RecapReplay) and one:
        yield (
            ("replay",),
            "RECAP weighs objectives against each other and there is one only; name `tasks:` to replay, or set "
            "finished: true with two stages or more",
        )
    elif not isinstance(replay, RecapReplay | Static):
        yield ("replay",), "replays nothing; name `tasks:`, or set finished: true with two stages or more"


def _loss(spec: ArmSpec, replay: Mixed) -> Iterator[Problem]:
    supervised = replay.loss == "supervised"
    if supervised and not spec.method.needs_rollouts:
        yield ("replay", "loss"), "SFT supervises replayed samples anyway; leave it out"
    if not supervised and replay.coefficient != 1.0:
        yield ("replay", "coefficient"), "is the factor of the supervised side loss; set loss: supervised"
    if replay.ratio is not None and replay.sampler != "ratio" and not supervised:
        yield ("replay", "ratio"), f"sampler: {replay.sampler} mixes by its own rule; remove it, or set sampler: ratio"
    samples = spec.method.batch().samples
    if samples and (replay.sampler == "ratio" or supervised) and samples * replay.share < 1:
        yield (
            ("replay", "ratio"),
            f"{replay.share:g} of a batch of {samples} samples is less than one; set {1 / samples:.3g} or more",
        )
