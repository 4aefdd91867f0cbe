"""rewards.html, beside report.html: what each reward taught, and what it was meant to teach."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from cpt.report import plots as curves
from cpt.report.arm_summary import TITLES
from cpt.report.figure_style import arm_colours
from cpt.report.rewards import plots
from cpt.report.rewards.exploits import REWARDED_FROM
from cpt.report.rewards.reward_vs_accuracy import RULE, points
from cpt.report.rewards.study import Study
from cpt.report.sanity_checks import caveats
from cpt.report.templates import environment

PAGE = "rewards.html"
METRICS = ("MFT", "AvgAcc", "BWT", "FM", "retention")
SHOWN = 8  # exploits of a stage on the page


def render_study(study: Study) -> str:
    """The page: one self-contained HTML text."""
    env = environment()
    env.filters["points"] = points
    return env.get_template("rewards/page.html.j2").render(**_view(study))


def _view(study: Study) -> dict[str, Any]:
    """The template's variables. Figures are safe HTML; the template escapes all other texts."""
    summary, run = study.summary, study.summary.run
    greedy = {base["evaluation"]["temperature"] == 0 for base in run.plan["bases"] if "evaluation" in base} == {True}
    return {
        "run": run,
        "sets": study.sets,
        "colours": arm_colours(run),
        "caveats": caveats(run),
        "level": round(summary.bootstrap.level * 100),
        "decoding": "greedy" if greedy else "made as the recipe's evaluation says",
        "rule": RULE,
        "rewarded_from": REWARDED_FROM,
        "shown": SHOWN,
        "window": plots.WINDOW,
        "metrics": {name: TITLES[name] for name in METRICS},
        "any_exploit": any(stage.after and stage.after.texts for one in study.sets for stage in one.stages),
        "figures": _figures(study),
    }


def _figures(study: Study) -> dict[str, Any]:
    summary, run = study.summary, study.summary.run
    arms = [one.arm for one in study.sets]
    held_out = {
        one.arm.name: [one.overall] if one.arm.schedule == "joint" else [stage.held_out for stage in one.stages]
        for one in study.sets
    }
    drawn = {
        "reward_vs_accuracy": plots.reward_vs_accuracy(run, arms, held_out),
        "gaps": plots.gaps(run, arms),
        "components": plots.components(run, arms),
        "lengths": plots.lengths(run, arms),
        "exploration": plots.exploration(run, arms),
        "stages": curves.accuracy_by_stage(summary, "strict"),
        "retention": curves.retention_by_stage(summary, "strict"),
    }
    return {name: Markup(svg) for name, svg in drawn.items()}
