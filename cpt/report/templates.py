"""The template environment of the report's pages, which escapes every text, and number formats."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from cpt.evaluate.stats import Metric, format_number

if TYPE_CHECKING:
    from jinja2 import Environment


def environment() -> Environment:
    """The templates of this package, with the filters `number`, `interval`, `percent`, `clock` and `formula`."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    found = Environment(
        loader=PackageLoader("cpt.report", "."),
        autoescape=True,  # texts of models, tasks and recipes are data
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "number": _number,
        "interval": _interval,
        "percent": _percent,
        "clock": _clock,
        "formula": _formula,
    }
    return found


def _number(metric: Metric, signed: bool = False) -> str:
    return "n/a" if metric.value is None else format_number(100 * metric.value, signed=signed)


def _interval(metric: Metric, signed: bool = False) -> str:
    """With as many digits as `number`: with fewer, an interval may seem to exclude its value."""
    if metric.low is None or metric.high is None:
        return metric.reason.removeprefix("n/a: ")
    low, high = (format_number(100 * end, signed=signed) for end in (metric.low, metric.high))
    return f"{low} to {high}"


def _formula(text: str) -> Any:
    """HTML of a formula, with subscripts."""
    return Markup(re.sub(r"_\{([^}]*)\}", r"<sub>\1</sub>", str(escape(text))))


def _percent(value: float | None, signed: bool = False) -> str:
    return "n/a" if value is None else format_number(100 * value, signed=signed)


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "n/a"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
