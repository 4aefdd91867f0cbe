"""The stage loop: for each arm and seed, train on one task after another, and after every stage evaluate every task.

This is the method of every comparison that cpt makes. Stages meet only through files (`cpt.store`), so the same call
again goes on where the last one stopped; training is `cpt.train`, generation `cpt.rollout`, scoring `cpt.tasks`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.common.console import console, counted
from cpt.models.load import load_processor
from cpt.plan.epochs import data_notes
from cpt.plan.make import make_plan
from cpt.plan.preflight import gpu_count
from cpt.plan.run_plan import RunPlan
from cpt.plan.stages import BasePlan, ModelPlan, StagePlan
from cpt.recipe.reward_checks import code_of
from cpt.rollout.engine import EngineSettings
from cpt.rollout.limits import engine_kind
from cpt.rollout.pool import RolloutPool
from cpt.rollout.threads import trainer_env
from cpt.run.cluster import cluster, placement_of
from cpt.run.evaluation import Evaluations, during_notes
from cpt.run.progress import DONE, Progress, make_progress
from cpt.run.rows import check_rows, run_reads
from cpt.run.worker import TrainerDied, run_check, run_stage, start_worker
from cpt.store.checks import check_results
from cpt.store.continued import check_may_go_on, planned_before
from cpt.store.run_store import RunStore
from cpt.train.result import drop_checkpoints

if TYPE_CHECKING:
    from cpt.evaluate.evaluators.base import Subject
    from cpt.recipe import Recipe, Rollout
    from cpt.run.cluster import Placement
    from cpt.store.folder import StageDir

MAX_RESTARTS = 2  # of a process that died, per stage and per measurement; after that the user should know


def run_recipe(
    recipe: Recipe,
    *,
    out: Path,
    arms: Sequence[str] | None = None,
    address: str | None = None,
    fresh: bool = False,
) -> int:
    """Run a recipe into the folder `out`, or go on where an earlier call stopped; then build the report.

    Args:
        arms: only these arms; None for all.
        address: of an existing Ray cluster; None starts one on this machine.
        fresh: delete what an earlier run left in `out`.

    Returns:
        The process's exit code.

    Raises:
        ValueError: the folder holds a run of another recipe, or something in the recipe or in a task's samples does not
            fit the model.
    """
    plan = make_plan(recipe, arms)
    pictures = 1
    if not fresh:
        check_may_go_on(out, recipe)
        planned_before(out, plan.as_dict())
    if fresh or not _finished(plan, RunStore(out)):
        gpu = address is not None or gpu_count() > 0
        kind = engine_kind(plan.model.path, recipe.rollout, recipe.resources, gpu=gpu)
        pictures = check_rows(run_reads(plan), plan.model, recipe.rollout.max_model_len, kind)
    with RunStore(out).open_or_create(recipe, fresh=fresh) as store, _attempt(store):
        store.write_plan(plan)
        changed = Evaluations(store).forget_changed(plan)
        check_results(store, plan.stages, [(base.seed, base.prompt, base.key) for base in plan.bases])
        if _finished(plan, store):
            print(f"{recipe.name}: {counted(len(plan.stages), 'stage')} in {out}, all finished; nothing was left to do")
            for note in during_notes(store, plan):
                print(f"note: {note}")
            print(f"report: {_report(store, recipe)}")
        else:
            with _progress(plan) as progress:
                for note in [*data_notes(plan.by_arm), *_changed_notes(changed), *during_notes(store, plan)]:
                    progress.message(f"note: {note}")
                with _open(plan, store, progress, address, pictures) as run:
                    run.everything()
                progress.message(f"report: {_report(store, recipe)}")
    _print_summary(out)
    return 0


@dataclass
class Run:
    """A run under way: the plan, the folder, and the processes that do the work.

    Attributes:
        pictures: most pictures of one prompt.
    """

    plan: RunPlan
    store: RunStore
    progress: Progress
    placement: Placement
    pictures: int = 1
    evaluations: Evaluations = field(init=False)
    pool: RolloutPool = field(init=False)
    _waiting: Any = None  # a training process that is importing already

    def __post_init__(self) -> None:
        self.evaluations = Evaluations(self.store, note=self.progress.message)

    def start_engines(self) -> None:
        """The rollout pool. Engines and the first training process import their libraries side by side."""
        if not self.placement.trainer_gpus:
            self._prepare_worker()
        self.pool = start_pool(self.plan.model, self.plan.recipe.rollout, self.placement, self.pictures)

    def everything(self) -> None:
        """Row 0 of every matrix, then arm by arm."""
        self.evaluate_bases()
        for stages in self.plan.arms.values():
            self.train_arm(stages)

    def evaluate_bases(self) -> None:
        """The base model on every task, once per prompt style in use."""
        checked: set[str] = set()
        for base in self.plan.bases:
            subject = self.evaluations.of_base(base)
            if self.evaluations.missing(subject) and base.key not in checked:
                self.progress.stage("base", base.seed, 0, "", "check")
                self._check(base)
                checked.add(base.key)
            self.evaluate(subject)

    def _check(self, base: BasePlan) -> None:
        """Check that engines and transformers give the base model the same log-probabilities."""
        with self.store.phase("check", arm="base", seed=base.seed, stage=0):
            run_check(self._kept_worker(), base, self.pool)

    def train_arm(self, stages: Sequence[StagePlan]) -> None:
        """One arm, one seed: each stage starts from the policy that the stage before has left."""
        base = Path(stages[0].model.path) if Path(stages[0].model.path).exists() else stages[0].model.path
        start = base
        for stage in stages:
            if not self.store.is_trained(stage):
                self.train(stage, base if stage.from_base else start)
            self.evaluate(self.evaluations.of_stage(stage))
            start = self.store.stage(stage).policy
            self.progress.stage(stage.arm, stage.seed, stage.index, stage.task, DONE)

    def train(self, stage: StagePlan, start: Path | str) -> None:
        """One stage in a process of its own, which goes on from its last checkpoint if it dies."""
        where = self.store.begin_stage(stage)
        kept = None if stage.filter is None else self.filter(stage, start, where)
        self.progress.stage(stage.arm, stage.seed, stage.index, stage.task, "train", stage.steps)

        def on_step(row: Mapping[str, Any]) -> None:
            self.progress.step(stage.arm, stage.seed, stage.index, row["step"], row)
            if row["step"] in stage.during.steps:  # with the next row it is over
                self.progress.evaluating(stage.arm, stage.seed, stage.index)

        labels = {"arm": stage.arm, "seed": stage.seed, "stage": stage.index}
        with self.store.phase("train", **labels):
            for attempt in range(MAX_RESTARTS + 1):
                worker = self._worker()
                if not self.placement.trainer_gpus:  # with GPUs, the next process would wait for this one's
                    self._prepare_worker(stage)
                try:
                    result = run_stage(
                        worker, stage, start_folder=start, out=where, kept=kept, pool=self.pool, on_step=on_step
                    )
                    break
                except TrainerDied as error:
                    if attempt == MAX_RESTARTS:
                        raise
                    self._waiting = None  # it may have died of the same cause
                    self.progress.message(f"{error}; going on from its last checkpoint")
        if result.resumed_from:
            self.progress.message(f"{stage.label}: went on from step {result.resumed_from}")
        for note in result.notes:
            self.progress.message(f"{stage.label}: {note}")
        notes = {name: value for name in ("merge", "during") if (value := getattr(result, name)) is not None}
        self.store.mark_trained(
            stage, steps=result.steps, resumed_from=result.resumed_from, seconds=result.seconds, **notes
        )
        drop_checkpoints(where)

    def filter(self, stage: StagePlan, start: Path | str, where: StageDir) -> list[int]:
        """Rollouts of the policy that the stage starts from choose its training samples: their positions."""
        from cpt.run.filtering import kept_samples
        from cpt.train.data import own_samples

        self._prepare_worker()
        self.progress.stage(stage.arm, stage.seed, stage.index, stage.task, "filter")
        with self.store.phase("filter", arm=stage.arm, seed=stage.seed, stage=stage.index):
            processor = load_processor(start, trust_remote_code=stage.model.trust_remote_code)
            samples = own_samples(stage)
            kept = kept_samples(
                stage, samples, start_folder=start, file=where.filter, pool=self.pool, processor=processor
            )
        few = f", fewer than one batch of {stage.batch_samples}" if len(kept) < stage.batch_samples else ""
        self.progress.message(f"{stage.label}: the filter keeps {len(kept)} of {len(samples)} training samples{few}")
        return kept

    def evaluate(self, subject: Subject) -> None:
        """Whatever has not been measured yet on a finished policy; again if a process dies that loads models for it."""
        for evaluator in self.evaluations.missing(subject):
            self._prepare_worker()
            self.progress.stage(subject.arm, subject.seed, subject.stage, subject.task, evaluator.phase)
            for attempt in range(MAX_RESTARTS + 1):
                try:
                    self.evaluations.measure(evaluator, subject, self.pool, self._kept_worker)
                    break
                except TrainerDied as error:
                    if attempt == MAX_RESTARTS:
                        raise
                    self._waiting = None  # it is the one that died
                    self.progress.message(f"{error}; measuring again")

    def _prepare_worker(self, trained: StagePlan | None = None) -> None:
        """Let the next process import its ten seconds of libraries while another one trains or evaluates.

        Args:
            trained: the stage that is being trained, which needs no other process.
        """
        if self._waiting is None and self._needs_worker(trained):
            self._waiting = self._start_worker()

    def _needs_worker(self, trained: StagePlan | None) -> bool:
        """Whether something is left to train, or to measure by loading models. What is left is at the end."""
        left = (stage for stage in reversed(self.plan.stages) if stage is not trained)
        subjects = reversed(self.evaluations.subjects(self.plan))
        missing = (one for subject in subjects for one in self.evaluations.missing(subject))
        return not all(map(self.store.is_trained, left)) or any(evaluator.needs_model for evaluator in missing)

    def _worker(self) -> Any:
        """A process that trains one stage."""
        worker, self._waiting = self._waiting or self._start_worker(), None
        return worker

    def _kept_worker(self) -> Any:
        """The process that trains next, for what has to be done before."""
        self._waiting = self._waiting or self._start_worker()
        return self._waiting

    def _start_worker(self) -> Any:
        tasks = self.plan.recipe.definitions
        return start_worker(gpus=self.placement.trainer_gpus, environment=trainer_env(), tasks=tasks)


@contextmanager
def _open(plan: RunPlan, store: RunStore, progress: Progress, address: str | None, pictures: int) -> Iterator[Run]:
    """Ray and the rollout pool for the length of a run."""
    progress.message("Ray and the rollout engines start")
    with ExitStack() as stack:
        with store.phase("ray"):
            stack.enter_context(cluster(address))
        run = Run(plan, store, progress, placement_of(plan.recipe.rollout, plan.recipe.resources), pictures)
        with store.phase("engines"):
            run.start_engines()
        stack.callback(run.pool.close)
        store.update_manifest(rollout_engine=run.pool.engine)
        yield run


def start_pool(model: ModelPlan, rollout: Rollout, placement: Placement, pictures: int = 1) -> RolloutPool:
    """The engines that a recipe asks for, on the base model. Call inside `cpt.run.cluster.cluster`.

    Args:
        pictures: most pictures of one prompt (`cpt.run.rows.check_rows`).

    Raises:
        ValueError: the model is on the Hub, and its dtype is not known yet (see `cpt.plan.preflight.available_model`).
    """
    if model.dtype == "auto":
        raise ValueError("model.dtype: auto needs the model's config.json on this machine; write float32 or bfloat16")
    return RolloutPool.start(
        model.path,
        engine=rollout.engine,
        engines=rollout.engines,
        gpus_per_engine=placement.engine_gpus,
        dtype=model.dtype,
        attention=model.attention,
        max_model_len=rollout.max_model_len,
        limit_images=max(pictures, EngineSettings.limit_images),
        max_num_seqs=rollout.max_num_seqs,
        gpu_memory_utilization=rollout.gpu_memory_utilization,
        trust_remote_code=model.trust_remote_code,
    )


@contextmanager
def _attempt(store: RunStore) -> Iterator[None]:
    """The manifest says how this call ended."""
    status = "failed"
    try:
        yield
        status = "complete"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        store.finish(status)


def _changed_notes(changed: Mapping[str, int]) -> list[str]:
    return [
        f"{name}: {counted(results, 'result')} will be measured again, because the recipe asks for something else now"
        for name, results in changed.items()
    ]


def _finished(plan: RunPlan, store: RunStore) -> bool:
    return all(map(store.is_trained, plan.stages)) and Evaluations(store).all_measured(plan)


@contextmanager
def _progress(plan: RunPlan) -> Iterator[Progress]:
    progress = make_progress()
    progress.start(plan)
    try:
        yield progress
    finally:
        progress.close()


def _report(store: RunStore, recipe: Recipe) -> Path:
    from cpt.report.page import build_report

    store.finish()  # for the page: an attempt that gets this far has done its work
    with store.phase("report"):
        # The recipe's own rewards have just been executed; what else the folder carries has not been asked for.
        return build_report(store.root, trusted=code_of(recipe))


def _print_summary(out: Path) -> None:
    from cpt.report.terminal_table import print_summary

    print_summary(out, console())
