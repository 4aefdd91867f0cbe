"""The table of all rewards in docs/rewards.md, made from the registry: `python -m rewards.reference` prints it."""

from __future__ import annotations

from rewards.registry import Entry, get, names

HEADER = "| reward | parameters | value | range | source | known limits |\n|---|---|---|---|---|---|"
YES_OR_NO = frozenset(("accuracy",))
"""Rewards whose formula is another one's and does not say that it is 0 or 1."""


def table() -> str:
    """Markdown, a line for every reward in the registry's order."""
    return "\n".join([HEADER, *map(_line, map(get, names()))])


def value_range(entry: Entry) -> str:
    """`0 or 1` where the formula starts with one of them and an if, else `0 to 1`."""
    all_or_nothing = entry.formula.startswith(("1 if ", "0 if ")) or entry.name in YES_OR_NO
    return "0 or 1" if all_or_nothing else "0 to 1"


def _line(entry: Entry) -> str:
    parameters = ", ".join(f"`{name}={parameter.default}`" for name, parameter in entry.parameters.items())
    cells = (f"`{entry.name}`", parameters, entry.formula, value_range(entry), entry.source, entry.limits)
    return f"| {' | '.join(cell.replace('|', '&#124;') or '–' for cell in cells)} |"


if __name__ == "__main__":
    print(table())
