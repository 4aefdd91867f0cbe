"""Records made by hand, for tests of metrics and of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cpt.types import Record

Bits = Sequence[int] | str


def record(arm: str, seed: int, stage: int, task: str, number: int, strict: int, tolerant: int | None = None) -> Record:
    """One evaluated sample; tolerant scoring is strict's unless given."""
    return Record(
        arm=arm,
        seed=seed,
        stage=stage,
        task=task,
        sample_id=f"{task}/test/{number}",
        prompt=f"question {number}",
        completion="<answer> yes </answer>" if strict else "no",
        finish_reason="stop",
        extracted="yes" if strict else "no",
        gold=["yes"],
        strict=strict,
        tolerant=strict if tolerant is None else tolerant,
        n_tokens=4,
    )


def records(
    cells: Mapping[tuple[int, str], Bits],
    *,
    tolerant: Mapping[tuple[int, str], Bits] | None = None,
    arm: str = "sft",
    seed: int = 0,
) -> list[Record]:
    """Records of one arm and seed from bits per (stage, task): `{(0, "a"): "01"}` is two samples, the second right."""
    rows = []
    for (stage, task), bits in cells.items():
        loose = (tolerant or {}).get((stage, task), bits)
        for number, (strict, other) in enumerate(zip(bits, loose, strict=True)):
            rows.append(record(arm, seed, stage, task, number, int(strict), int(other)))
    return rows
