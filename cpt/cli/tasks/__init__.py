"""`cpt tasks`: one file a command, with what it prints."""

from __future__ import annotations

from cpt.cli.commands import Command, group

GROUP = group(
    "The tasks there are, and what is wrong with one's own. Alone, it lists.",
    {
        "list": Command("tasks.list:list_tasks", "List the built-in tasks and the task files that come with cpt."),
        "check": Command("tasks.check:check", "Look for what is wrong with the data of tasks."),
    },
    default="list",
)
