"""The process that math-verify runs in: one JSON object a line on stdin, one a line on stdout, in lockstep.

Request `{"gold": [...], "answer": "...", "limit": seconds}`, answer `{"equal": true}` or `{"error": "..."}`; the first
line out is `{"ready": true}`. `rewards.maths_process` starts this file as a program, so nothing of this package is
imported here. It ends when its stdin does, or long after a limit that the parent no longer enforces.
"""

from __future__ import annotations

import json
import logging
import math
import os
import resource
import signal
import sys
from dataclasses import replace
from decimal import Decimal
from functools import cache
from typing import Any

MEMORY_BYTES = 4 << 30
GRACE_SECONDS = 10
DIGITS = 40
"""Digits to which an irrational number is worked out."""
SAME = 20
"""Two of them that share so many digits are the same number."""
ROUNDED_FRACTION, ROUNDED = 6, 7
"""Digits that a decimal needs to pass for a fraction that no decimal says exactly (1/3), and for an irrational."""


def main() -> None:
    """Answer requests until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole process group; the parent decides
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, even within C code
    _limit_memory()
    logging.disable(logging.CRITICAL)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # output of libraries is no answer
    import math_verify  # type: ignore[import-untyped]  # noqa: F401  before the first question, whose time is limited

    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        signal.alarm(math.ceil(request["limit"]) + GRACE_SECONDS)
        answer = _answer(request["gold"], request["answer"])
        signal.alarm(0)
        print(json.dumps(answer), file=answers, flush=True)


def _limit_memory() -> None:
    """Limit memory, so that a power tower does not use up the machine's."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES if hard < 0 else min(MEMORY_BYTES, hard), hard))


def _answer(gold: list[str], answer: str) -> dict[str, object]:
    try:
        said = _parsed(answer)
        return {"equal": any(_equal(_parsed(accepted), said) for accepted in gold)}
    except Exception as error:  # noqa: BLE001  sent to the parent, which counts it as an error
        return {"error": f"{type(error).__name__}: {error}"[:200]}


def _parsed(text: str) -> list[Any]:
    """The text as one LaTeX formula; empty if it is none.

    math-verify's other ways of reading look for the last number or formula in a text, fall back on the text itself,
    and drop units by a list in which "3c", "3 less" and "3 no change" are 3.
    """
    from math_verify import LatexExtractionConfig, parse

    rules = replace(LatexExtractionConfig().normalization_config, units=False, boxed="none")
    how = [LatexExtractionConfig(normalization_config=rules)]
    parsed: list[Any] = parse(f"${text}$", how, fallback_mode="no_fallback", parsing_timeout=None, raise_on_error=True)
    return parsed


def _equal(gold: list[Any], said: list[Any]) -> bool:
    """math-verify's verdict, without its own time limit (that calls a timeout a wrong answer), numbers compared by us.

    An inequality is the interval that it describes.
    """
    from math_verify import verify

    _compare_numbers_relatively()
    equal: bool = verify(gold, said, timeout_seconds=None, raise_on_error=True, allow_set_relation_comp=True)
    return equal


@cache
def _compare_numbers_relatively() -> None:
    """Replace math-verify's comparison of numbers, everywhere in sets, points, intervals and equations too.

    It rounds at six decimals, so that 6.63e-34 is 9.1e-31 and 1.6e-19 is -1.6e-18, and has no setting for that.
    """
    from math_verify import grader

    assert callable(grader.sympy_numeric_eq)
    grader.sympy_numeric_eq = _same_value


def _same_value(one: Any, other: Any, _rounding: int = 0, _precision: int = 0) -> bool:
    """Whether two expressions have the same value: the same sign, and equal exactly or to SAME digits.

    A decimal also equals the number that it is rounded from, if it has enough digits (`_is_rounded`).
    """
    from math_verify.grader import MatrixBase, sympy_symbolic_eq  # type: ignore[import-untyped]

    one, other = one.doit(), other.doit()
    if isinstance(one, MatrixBase) or isinstance(other, MatrixBase):
        if not (isinstance(one, MatrixBase) and isinstance(other, MatrixBase) and one.shape == other.shape):
            return False
        pairs = zip(one.flat(), other.flat(), strict=True)
        return all(_same_value(x, y) or sympy_symbolic_eq(x, y) for x, y in pairs)
    a, b = _exact(one), _exact(other)
    if not (a.is_number and b.is_number):
        return bool(a.is_commutative and b.is_commutative and (a - b).expand() == 0)
    if a == b:
        return True
    if not (a.is_finite and b.is_finite):
        return False
    x, y = a.evalf(DIGITS), b.evalf(DIGITS)
    agree = not (a.is_rational and b.is_rational) and bool(abs(x - y) * 10**SAME < max(abs(x), abs(y)))
    if not (x.is_real and y.is_real):
        return agree
    return bool(x * y > 0) and (agree or _is_rounded(one, b) or _is_rounded(other, a))


def _exact(expression: Any) -> Any:
    """The expression with fractions for decimals."""
    from math_verify.grader import Float, Rational

    return expression.replace(lambda part: isinstance(part, Float), lambda part: Rational(str(part)))


def _is_rounded(decimal: Any, exact: Any) -> bool:
    """Whether a decimal is a number rounded to its last digit: 0.333333 of 1/3, not 0.333.

    A number with an exact decimal, such as 1/4 or 1234567, has to be exact.
    """
    from math_verify.grader import Float

    if not isinstance(decimal, Float) or (exact.is_rational and _divides_a_power_of_ten(int(exact.q))):
        return False
    _, digits, exponent = Decimal(str(decimal)).normalize().as_tuple()
    assert isinstance(exponent, int)
    if len(digits) < (ROUNDED_FRACTION if exact.is_rational else ROUNDED):
        return False
    return bool(abs(exact.evalf(DIGITS) - _exact(decimal)) * 2 <= _exact(Float(f"1e{exponent}")))


def _divides_a_power_of_ten(denominator: int) -> bool:
    return pow(10, denominator.bit_length(), denominator) == 0


if __name__ == "__main__":
    main()
