"""Is the answer one of the accepted ones?"""

from __future__ import annotations

from collections.abc import Iterable

from rewards.extract import Template, normalise, strict_answer

ACCURACY_WEIGHT = 0.9
FORMAT_WEIGHT = 0.1


def exact_match(answer: str, gold: Iterable[str]) -> float:
    """1.0 if the normalised answer is one of the normalised accepted answers, else 0.0. An empty answer is wrong."""
    said = normalise(answer)
    return float(bool(said) and said in {normalise(g) for g in gold})


def accuracy_and_format(completion: str, gold: Iterable[str], template: Template) -> dict[str, float]:
    """The components of the central paper's reward, 0.9 accuracy + 0.1 format (arXiv 2507.05386, released code).

    Returns:
        `accuracy` and `format`, each 0 or 1, and `reward` in [0, 1]. Accuracy is read through the strict format, so
        an answer in another format earns nothing.
    """
    read = strict_answer(completion, template)
    accuracy = exact_match(read.answer, gold)
    well_formed = float(read.status == "ok")
    return {
        "accuracy": accuracy,
        "format": well_formed,
        "reward": ACCURACY_WEIGHT * accuracy + FORMAT_WEIGHT * well_formed,
    }
