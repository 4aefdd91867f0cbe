"""Every task of the built-in world."""

from __future__ import annotations

from cpt.tasks.world import digits, shapes, text
from cpt.tasks.world.base import BuiltinTask

TASKS: tuple[type[BuiltinTask], ...] = (*shapes.TASKS, *digits.TASKS, *text.TASKS)
