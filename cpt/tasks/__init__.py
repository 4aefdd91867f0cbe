"""Tasks: what is asked, what counts as right, and what is rewarded.

- `registry`: the tasks that recipes can name
- `definition`: what YAML may say of a task; `data_task`, `row_index`: a task over one's own data
- `sources/`: where rows come from; `rows/`: how a row is laid out; `usual`: what a definition need not say
- `base`: what any task needs beside its samples; `prompts`: formats; `scoring`: metrics and the default reward
- `samples`, `fingerprint`: samples as they are read, and what identifies them
- `row`: what a reward is told of a sample
- `world/`: the built-in world and its model, reached through `world.builtin`
"""

from __future__ import annotations

from cpt.tasks.registry import declare, get_task, open_task, task_names
from cpt.tasks.samples import read_samples

__all__ = ["declare", "get_task", "open_task", "read_samples", "task_names"]
