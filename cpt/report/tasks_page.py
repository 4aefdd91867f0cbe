"""The page of `cpt tasks check`: samples of each task as a model is shown them, and what is wrong with its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cpt.report.sample_cards import data_uri
from cpt.report.templates import environment
from cpt.tasks.audit.findings import KINDS, Report


def render_tasks(tasks: Sequence[tuple[Report, Sequence[Any]]]) -> str:
    """One self-contained HTML text.

    Args:
        tasks: of each, what was found, and the samples to show (`cpt.cli.tasks.shown.Shown`).
    """
    shown = [
        (report, [(one, [data_uri(one.sample.images[i]) for i in range(len(one.sizes))]) for one in samples])
        for report, samples in tasks
    ]
    return environment().get_template("tasks_page.html.j2").render(tasks=shown, kinds=KINDS, most=50)
