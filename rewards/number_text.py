"""The text of a number without layout: LaTeX, quotation marks, spelled and typeset numerals."""

from __future__ import annotations

import re

from rewards.numerals import plain_numerals

_LATEX = [
    (re.compile(r"\\(?:[()\[\]]|left(?![a-z])|right(?![a-z])|displaystyle(?![a-z]))"), ""),
    (re.compile(r"\\[dtc]?frac ?(?:\{ ?(-?[0-9.]++) ?\}|([0-9])) ?(?:\{ ?([0-9.]++) ?\}|([0-9]))"), r" \1\2/\3\4"),
    (re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mathsf|mbox|bf|rm)\{([^{}\\]*+)\}"), r"\1"),
    (re.compile(r"\\times(?![a-zA-Z])"), "×"),
    (re.compile(r"\\cdot(?![a-zA-Z])"), "·"),
    (re.compile(r"\\(?:approx|sim|simeq)(?![a-zA-Z])"), "~"),
    (re.compile(r"\\(?:geq?|geqslant)(?![a-zA-Z])"), "≥"),
    (re.compile(r"\\(?:leq?|leqslant)(?![a-zA-Z])"), "≤"),
    (re.compile(r"\\(?:gt)(?![a-zA-Z])"), ">"),
    (re.compile(r"\\(?:lt)(?![a-zA-Z])"), "<"),
    (re.compile(r"\\angle(?![a-zA-Z])"), "∠"),
    (re.compile(r"\^ ?\{? ?\\(?:circ|degree)(?![a-zA-Z]) ?\}?|\\degree(?![a-zA-Z])"), "°"),
    (re.compile(r"(?<=[0-9])(?:\\,|\{,\})(?=[0-9]{3}(?![0-9]))"), ","),
    (re.compile(r"\\[,;:! ]|\\q?quad(?![a-zA-Z])|(?<=[0-9])~(?=[a-zA-Z])"), " "),
    (re.compile(r"\\([%$#&])"), r"\1"),
]
_DOLLARS = re.compile(r"\$(\S(?:[^$]*[^$\s])?)\$(?![0-9])")
_QUOTED = re.compile("(?<![0-9])[\"'“‘«「『]([^\"'“”‘’«»「」『』]+)[\"'”’»」』]")
# 5'8" and 5′ 8″ are feet and inches; one alone too, where a number stands before it.
_FEET = re.compile(
    r"(?<![0-9.])([0-9]{1,3}) ?['’′] ?([0-9]{1,2}(?:\.[0-9]+)?(?: [1-7]/[248])?) ?(?:[\"”″]|''|in\.?(?![a-z])|$)"
)
_INCHES = re.compile("(?<=[0-9]) ?(?:[\"”″]|'')(?![0-9])")
# 2h30m and 1h05, whose m is no metre.
_HOURS = re.compile(
    r"(?<![\w.])([0-9]{1,3}) ?h(?:rs?|ours?)? ?([0-5]?[0-9]) ?(?:m(?:ins?|inutes?)?(?![A-Za-z])|(?![A-Za-z0-9.]))",
    re.IGNORECASE,
)
_ORDINAL = re.compile(r"(?<![A-Za-z])(?:Nos?\.|Nr\.|№|#) ?(?=[0-9])", re.IGNORECASE)


def plain(text: str) -> str:
    """The text with plain numerals and single spaces.

    >>> plain("\\\\(12{,}345^{\\\\circ}\\\\)")
    '12345°'
    """
    if "\\" in text or "{,}" in text:
        text = text.replace("{,}", "\\,")
        for pattern, without in _LATEX:
            text = pattern.sub(without, text)
    text = _QUOTED.sub(r"\1", _DOLLARS.sub(r"\1", text))
    text = _INCHES.sub(" in ", _FEET.sub(r"\1 ft \2 in ", text))
    text = _HOURS.sub(r"\1 h \2 min", text)
    text = plain_numerals(" ".join(re.sub(r"[\t\r\n]", " ", text).split(" ")))
    return " ".join(_ORDINAL.sub("", text).split())
