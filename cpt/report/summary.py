"""All numbers of a run, with intervals: what the page, the terminal and summary.json show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cpt.evaluate.intervals import DEFINITION
from cpt.evaluate.stats import Bootstrap
from cpt.report.arm_summary import SCORINGS, ArmSummary, summarise_arm, with_intransigence
from cpt.report.comparison import Along, Pair, compare
from cpt.report.load import RunData


@dataclass(frozen=True)
class Summary:
    """All numbers of a run."""

    run: RunData
    bootstrap: Bootstrap
    arms: tuple[ArmSummary, ...]
    pairs: tuple[Pair, ...]
    along: tuple[Along, ...]

    def as_dict(self) -> dict[str, Any]:
        """summary.json."""
        imported = {task: {"source": source} for task, source in self.run.imported.items()}
        return {
            **({"imported": imported} if imported else {}),
            "name": self.run.name,
            "tasks": list(self.run.tasks),
            "general": list(self.run.general),
            "scores": {
                task: {"metric": metric, "right_from": arm.scores.right_from[task]}
                for arm in self.run.arms
                for task, metric in arm.scores.metric.items()
            },
            "seeds": list(self.run.seeds),
            "interval": {
                "level": self.bootstrap.level,
                "resamples": self.bootstrap.resamples,
                "seed": self.bootstrap.seed,
                "kind": DEFINITION["one" if len(self.run.seeds) == 1 else "several"],
                "ends": DEFINITION["ends"],
            },
            "arms": {summary.arm.name: summary.as_dict() for summary in self.arms},
            "pairs": [pair.as_dict() for pair in self.pairs],
            "along": [along.as_dict() for along in self.along],
        }


def summarise(run: RunData, bootstrap: Bootstrap | None = None) -> Summary:
    """Compute every number from the records."""
    boot = bootstrap or Bootstrap()
    arms = with_intransigence(tuple(summarise_arm(run, arm, boot) for arm in run.arms), boot)
    compared = [compare(arms, scoring, boot) for scoring in SCORINGS]
    pairs = tuple(pair for found, _ in compared for pair in found)
    return Summary(run, boot, arms, pairs, tuple(along for _, found in compared for along in found))
