"""Tasks: what is asked, what counts as right, and what is rewarded.

- `registry`: the tasks that recipes can name
- `base`: what any task needs beside its samples; `prompts`: formats; `scoring`: metrics and the default reward
- `samples`, `fingerprint`: samples as they are read, and what identifies them
- `row`: what a reward is told of a sample
- `world/`: the built-in world and its model, reached through `world.builtin`
"""

from __future__ import annotations

from cpt.tasks.registry import get_task, task_names
from cpt.tasks.samples import read_samples

__all__ = ["get_task", "read_samples", "task_names"]
