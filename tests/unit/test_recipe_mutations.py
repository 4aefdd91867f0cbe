"""Damaged recipes and hostile overrides: each is accepted, or refused in lines that name file, line and key."""

from __future__ import annotations

from collections import Counter

from mutations import ACCEPTED, REFUSED, case, prepare, tried

CASES = 200  # of the 20,000 that were tried: `python tests/unit/mutations.py 20000 0`


def test_every_mutation_is_accepted_or_refused_by_name(tmp_path):
    prepare(tmp_path)
    found = {seed: tried(case(seed), tmp_path) for seed in range(CASES)}
    wrong = {seed: one.told for seed, one in found.items() if one.kind not in (ACCEPTED, REFUSED)}
    assert wrong == {}
    counts = Counter(one.kind for one in found.values())
    assert counts[ACCEPTED] > CASES / 50
    assert counts[REFUSED] > CASES / 2


def test_the_same_seed_is_the_same_case():
    assert [case(seed) for seed in range(30)] == [case(seed) for seed in range(30)]
    assert sum(bool(case(seed).overrides) for seed in range(30)) == 10
