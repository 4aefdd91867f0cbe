"""Tasks: what is asked, what counts as right, and what is rewarded. `world/` is the built-in world."""

from __future__ import annotations

from cpt.tasks.registry import get_task, task_names
from cpt.tasks.samples import read_samples

__all__ = ["get_task", "read_samples", "task_names"]
