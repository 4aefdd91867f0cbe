"""What filters kept: keep rate and pass rates of every filtered stage, from its filter.parquet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cpt.evaluate.stats import mean_or_nan
from cpt.methods.filtering import RIF, FilterFile, read_filter
from cpt.report.figure_style import REST, arm_colours, new_figure, plotting, to_svg
from cpt.report.load import NO_VARIANCE, ArmRun, RunData, StageRun
from cpt.store.run_store import RunStore

_ROW = 1.75  # inches: height of an arm's row


@dataclass(frozen=True)
class FilteredStage:
    """One filtered stage, its seeds together; of a joint stage one of its tasks.

    Attributes:
        everything, kept: prompts by right completions, none to all of them; equally long.
        scarce: whether some seed kept fewer prompts than a batch holds.
        wasted: share of training completions whose group has a single reward, mean over steps; None without rollouts.
    """

    arm: ArmRun
    index: int
    task: str
    rule: RIF
    everything: tuple[int, ...]
    kept: tuple[int, ...]
    scarce: bool
    wasted: float | None

    @property
    def prompts(self) -> int:
        """Number of prompts sampled."""
        return sum(self.everything)

    @property
    def keep_rate(self) -> float:
        """Share of them that was kept."""
        return sum(self.kept) / self.prompts

    @property
    def pass_rate(self) -> float:
        """Mean pass rate over all of them."""
        return _pass_rate(self.everything)

    @property
    def kept_pass_rate(self) -> float | None:
        """Mean pass rate over the kept ones."""
        return _pass_rate(self.kept) if any(self.kept) else None

    def as_dict(self) -> dict[str, Any]:
        """For summary.json."""
        return {
            "arm": self.arm.name,
            "stage": self.index,
            "task": self.task,
            "filter": self.rule.model_dump(mode="json"),
            "prompts": self.prompts,
            "keep_rate": self.keep_rate,
            "prompts_by_passes": list(self.everything),
            "kept_by_passes": list(self.kept),
            "frac_zero_std": self.wasted,
        }


def filtered_stages(run: RunData) -> list[FilteredStage]:
    """Every stage whose filter has sampled, arm by arm. ValueError for a damaged file."""
    found = []
    for arm in run.arms:
        for index, task in enumerate(run.tasks, start=1):
            stages = [stage for seed in arm.seeds if (stage := arm.stages.get((seed, index))) is not None]
            files = [file for stage in stages if (file := _evidence(run, stage)) is not None]
            joint = dict.fromkeys(prompt.task for file in files for prompt in file.prompts)
            for name in (joint if arm.schedule == "joint" else [task]) if files else ():
                found.append(_filtered_stage(arm, index, name, stages, files))
    return found


def _evidence(run: RunData, stage: StageRun) -> FilterFile | None:
    plan = stage.plan
    path = RunStore(run.root).stage_dir(plan["arm"], plan["seed"], plan["index"], plan["task"]).filter
    if plan.get("filter") is None or not path.exists():
        return None
    file = read_filter(path)
    return file if file.key == plan["key"] else None


def _filtered_stage(
    arm: ArmRun, index: int, task: str, stages: Sequence[StageRun], files: Sequence[FilterFile]
) -> FilteredStage:
    wasted = [float(row[NO_VARIANCE]) for s in stages for row in s.metrics if row.get(NO_VARIANCE) is not None]
    counts = [(_of_task(file, task) if arm.schedule == "joint" else file).counts() for file in files]
    return FilteredStage(
        arm=arm,
        index=index,
        task=task,
        rule=files[0].rule,
        everything=_summed([everything for everything, _ in counts]),
        kept=_summed([kept for _, kept in counts]),
        scarce=any(sum(file.kept) < stages[0].plan["batch_samples"] for file in files),
        wasted=mean_or_nan(wasted) if wasted else None,
    )


def _of_task(file: FilterFile, task: str) -> FilterFile:
    both = [(prompt, kept) for prompt, kept in zip(file.prompts, file.kept, strict=True) if prompt.task == task]
    return replace(file, prompts=[prompt for prompt, _ in both], kept=[kept for _, kept in both])


def pass_rates(run: RunData, stages: Sequence[FilteredStage]) -> str:
    """Histograms of pass rates as SVG, a row per arm and a column per task; the kept part in the arm's colour."""
    if not stages:
        return ""
    arms = list(dict.fromkeys(stage.arm.name for stage in stages))
    colours = arm_colours(run)
    with plotting():
        figure = new_figure(_ROW * len(arms) + 0.4)
        for stage in stages:
            row, column = arms.index(stage.arm.name), run.tasks.index(stage.task) + 1
            axes = figure.add_subplot(len(arms), len(run.tasks), row * len(run.tasks) + column)
            places = range(len(stage.everything))
            axes.bar(places, stage.everything, color=REST, width=0.86)
            axes.bar(places, stage.kept, color=colours[stage.arm.name], width=0.86)
            axes.grid(visible=False, axis="x")
            axes.locator_params(axis="both", integer=True, nbins=6)
            axes.set_title(f"{column}  {stage.task}" if row == 0 else "")
            if column == 1:
                axes.set_ylabel(stage.arm.label)
            if row == len(arms) - 1:
                axes.set_xlabel(f"right of {len(stage.everything) - 1}")
        return to_svg(figure, "filter")


def _summed(counts: Sequence[Sequence[int]]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*counts, strict=True)))


def _pass_rate(counts: Sequence[int]) -> float:
    return sum(passes * n for passes, n in enumerate(counts)) / (sum(counts) * (len(counts) - 1))
