"""`cpt rewards`: one file a command, with what it prints."""

from __future__ import annotations

from cpt.cli.commands import Command, group

GROUP = group(
    "The reward laboratory: list rewards, score completions, attack a reward, compare two, study their effect.",
    {
        "list": Command("rewards.list:list_rewards", "List the rewards with formula, parameters and source."),
        "score": Command("rewards.score:score", "Score saved completions, without a model."),
        "audit": Command("rewards.audit:audit", "Attack rewards with completions that must not be rewarded."),
        "agree": Command("rewards.agree:agree", "Show where two rewards disagree."),
        "study": Command("rewards.study:study", "Train one arm under several rewards and compare them."),
    },
)
