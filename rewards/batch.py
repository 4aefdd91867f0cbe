"""Rewards for whole batches, as TRL's trainers call them; and the only place where a reward's exceptions are caught."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rewards.score import Reward, Score, required_columns

MAX_ERRORS = 0.1
"""Share of a batch that may fail (one row may in any case) before `as_trl_reward` gives up."""

RowOf = Callable[[Mapping[str, Any]], Mapping[str, Any]]
TRLReward = Callable[..., "list[float | None]"]

_TRL_OWN = frozenset(("prompts", "completion_ids", "trainer_state", "environments"))


def guarded(reward: Reward, completion: str, row: Mapping[str, Any]) -> Score:
    """The reward's Score. An exception becomes a Score with status error, which is never counted as a wrong answer.

    Nothing else in this package catches exceptions of rewards.
    """
    try:
        return reward(completion, **row)
    except Exception as error:  # noqa: BLE001  a user's function may raise anything, on one row out of thousands
        return Score(0.0, status="error", detail=f"{type(error).__name__}: {' '.join(str(error).split())}"[:300])


def as_trl_reward(
    reward: Reward, row_of: RowOf | None = None, *, name: str = "reward", max_errors: float = MAX_ERRORS
) -> TRLReward:
    """A reward as TRL's trainers call it: completions (texts or chats) and the data's columns as lists, by keyword.

    A row that lacks a column of the reward (no such column, or None) gets None, which means "does not apply" in TRL.
    So does a row on which the reward failed. Logged, if TRL passes `log_metric` and `log_extra`:

    - `reward/<part>`: mean of every part over the rows that have it;
    - `reward/errors`: share of the scored rows that failed; `answers/<status>`: share of every status;
    - `reward/not_applicable`: share of rows without a column, if there are any;
    - the columns `extracted` and `status`.

    Args:
        row_of: keywords for the reward, from one row of the data's columns. Default: the columns that are not None,
            and `n_tokens`.
        name: its name in TRL's logs.
        max_errors: more failed rows than this share of a batch (and than one) end the training.

    Raises:
        ValueError: in a call, too many rows failed, or none has the columns that the reward needs.
    """
    required = required_columns(reward)

    def score(
        completions: Sequence[Any],
        log_extra: Callable[[str, list[Any]], None] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        rows = [(row_of or plain_row)(row) for row in _rows(columns, len(completions))]
        missing = [sorted(name for name in required if row.get(name) is None) for row in rows]
        if rows and all(missing):
            raise ValueError(f"{name}: no row of this batch has the column {missing[0][0]!r}, which the reward needs")
        scores = [
            None if lacks else guarded(reward, text_of(completion), row)
            for completion, row, lacks in zip(completions, rows, missing, strict=True)
        ]
        if log_metric is not None:
            _log(scores, log_metric)
        if log_extra is not None:
            log_extra("extracted", [None if one is None else one.extracted for one in scores])
            log_extra("status", [None if one is None else one.status for one in scores])
        _check_errors(scores, completions, name, max_errors)
        return [None if one is None or one.failed else one.value for one in scores]

    score.__name__ = name
    return score


def plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that have a value, without TRL's own, and `n_tokens` from the completion's token ids."""
    ids = row.get("completion_ids")
    counted = {} if ids is None else {"n_tokens": len(ids)}
    return counted | {key: value for key, value in row.items() if key not in _TRL_OWN and value is not None}


def text_of(completion: Any) -> str:
    """A completion's text: the last message's, if it is a chat; its blocks of text, if it has blocks."""
    if not isinstance(completion, str):
        completion = completion[-1]["content"]
    if isinstance(completion, str):
        return completion
    return "".join(block.get("text") or "" for block in completion if block.get("type") == "text")


def _rows(columns: Mapping[str, Any], length: int) -> list[dict[str, Any]]:
    """Columns as rows; what is no list of that length (TRL's trainer state) belongs to no row."""
    lists = {
        name: values for name, values in columns.items() if isinstance(values, list | tuple) and len(values) == length
    }
    return [{name: values[i] for name, values in lists.items()} for i in range(length)]


def _log(scores: Sequence[Score | None], log_metric: Callable[[str, float], None]) -> None:
    scored = [score for score in scores if score is not None]
    whole = [score for score in scored if not score.failed]
    for part in sorted({part for score in whole for part in score.parts}):
        values = [score.parts[part] for score in whole if part in score.parts]
        log_metric(f"reward/{part}", sum(values) / len(values))
    log_metric("reward/errors", (len(scored) - len(whole)) / len(scored))
    if len(scored) < len(scores):
        log_metric("reward/not_applicable", 1 - len(scored) / len(scores))
    for status, count in sorted(Counter(score.status for score in scored).items()):
        log_metric(f"answers/{status}", count / len(scored))


def _check_errors(scores: Sequence[Score | None], completions: Sequence[Any], name: str, most: float) -> None:
    failed = [(score, text_of(text)) for score, text in zip(scores, completions, strict=True) if score and score.failed]
    if len(failed) > max(1.0, most * len(scores)):
        first, text = failed[0]
        raise ValueError(
            f"{name}: {len(failed)} of {len(scores)} completions could not be scored, more than {most:.0%}. The first: "
            f"{first.status}: {first.detail}; completion {text[:80]!r}"
        )
