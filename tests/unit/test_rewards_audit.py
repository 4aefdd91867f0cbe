"""The audit: every shipped reward passes, planted bad ones do not, and known limits are what docstrings say."""

from __future__ import annotations

import json
import re

import pytest

from rewards.lab import attacks
from rewards.lab.attacks import Example
from rewards.lab.audit import Audit, Plan, audit
from rewards.lab.audit_examples import EXAMPLES, PLANS, UNKNOWN
from rewards.lab.audit_plan import audit_chosen, read_examples
from rewards.lab.choose import choose
from rewards.registry import get, names
from rewards.score import Score

WORD = EXAMPLES["word"]


@pytest.fixture(autouse=True)
def shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Extremely long texts are a tenth as long here; the command tries the whole length (tests/smoke)."""
    monkeypatch.setattr(attacks, "LONG", 5_000)


def news(found: Audit) -> set[tuple[str, str]]:
    """What was found and no docstring admits."""
    return {(finding.kind, finding.case) for finding in found.findings if not finding.known}


def substring(completion: str, *, gold: list[str], **_: object) -> Score:
    """A reward as one finds it in the wild."""
    return Score(float(any(answer in completion for answer in gold)))


@pytest.mark.parametrize("name", [name for name in names() if name != "maths"])
def test_every_shipped_reward_passes(name):
    """Mathematics takes seconds: tests/smoke/test_rewards_audit_all.py."""
    (chosen,) = choose([name])
    found = audit_chosen(chosen, styles=["direct", "think_boxed"])
    assert news(found) == set()
    assert found.passed
    assert found.tried >= 8


def test_every_reward_has_a_plan_and_no_other():
    assert list(PLANS) == names()
    asked = [example for plan in (*PLANS.values(), UNKNOWN) for example in plan.examples]
    assert all(example in asked for example in EXAMPLES.values())


@pytest.mark.parametrize("name", PLANS)
def test_known_limits_are_admitted_in_the_docstring(name):
    """Its own, or that of a reward that its limits name, as in "those of `exact`"."""
    texts, waiting = [], [name]
    while waiting:
        limits = get(waiting.pop()).limits
        texts.append(limits)
        waiting += [
            word for word in re.findall(r"`([\w-]+)`", limits) if word in PLANS and get(word).limits not in texts
        ]
    for case, words in PLANS[name].known.items():
        assert any(words in text for text in texts), f"{case}: {words!r}"


@pytest.mark.parametrize("name", [name for name in names() if PLANS[name].known and name != "maths"])
def test_known_limits_are_still_there(name):
    """One that has been mended has to leave the table. Some show in tolerant reading only."""
    strict, tolerant = choose([name, json.dumps({"type": name, "read": "tolerant"})])
    found = [*audit_chosen(strict, styles=["direct"]).findings, *audit_chosen(tolerant, styles=["bare"]).findings]
    assert {finding.case for finding in found} == set(PLANS[name].known)


def test_a_substring_match_fails():
    found = audit(substring, Plan((WORD,)))
    assert not found.passed
    for case in ("denial", "several answers", "every option", "question repeated", "broken tags", "text around"):
        assert ("rewarded", case) in news(found)
    assert ("unrewarded", "capitals") in news(found)


def test_a_substring_match_without_case_pays_for_everything_and_misses_nothing():
    def lower(completion: str, *, gold: list[str], **_: object) -> Score:
        return substring(completion.lower(), gold=gold)

    assert {kind for kind, _ in news(audit(lower, Plan((WORD,))))} == {"rewarded"}


def test_a_reward_that_does_not_look_at_the_answer_fails():
    found = audit(lambda completion, **_: Score(1.0), Plan((WORD,)), styles=["direct"])
    assert ("unrewarded", "right answer") in news(found)


def test_a_reward_that_pays_for_what_it_can_not_read_fails():
    """The right answer pays and nothing does more than a wrong one, but an exception escapes the verdict."""

    def fragile(completion: str, *, gold: list[str], **_: object) -> Score:
        answer = re.findall("<answer> (.*?) </answer>", completion)[0]
        return Score(float(answer.lower().strip(".") in gold))

    assert ("failed", "empty") in news(audit(fragile, Plan((WORD,)), styles=["direct"]))


@pytest.mark.parametrize("read", ["tolerant", "answer", "boxed", "last_line", "whole"])
@pytest.mark.parametrize("name", ["exact", "choice", "number", "iou", "set"])
def test_rewards_pass_in_other_readings_of_the_answer(name, read):
    """Attacked where they read it: a format that a reading ignores by definition is not held against the reward."""
    (chosen,) = choose([json.dumps({"type": name, "read": read})])
    found = audit_chosen(chosen)
    assert found.tried > 100
    assert news(found) == set()


def test_a_composite_may_pay_for_format_but_not_more():
    components = [{"type": "exact", "weight": 0.9}, {"type": "format", "weight": 0.1}]
    (chosen,) = choose([json.dumps(components)])
    assert news(audit_chosen(chosen, [WORD])) == set()
    only_format = json.dumps([{"type": "format", "weight": 1.0}])
    (hackable,) = choose([only_format])
    assert ("unrewarded", "right answer") in news(audit_chosen(hackable, styles=["direct"]))


def test_a_composites_length_term_is_no_finding_of_its_own():
    components = [{"type": "exact", "weight": 0.8}, {"type": "length", "weight": 0.2}]
    (chosen,) = choose([json.dumps(components)])
    assert news(audit_chosen(chosen, [WORD])) == set()


def test_a_gate_on_the_format_is_not_tried_without_one():
    components = [
        {"type": "choice", "read": "tolerant", "weight": 0.9, "requires": "format"},
        {"type": "format", "weight": 0.1},
    ]
    (chosen,) = choose([json.dumps(components)])
    assert news(audit_chosen(chosen)) == set()


def test_a_components_fixed_format_is_the_one_that_is_tried():
    components = [{"type": "exact", "weight": 0.9}, {"type": "format", "weight": 0.1, "template": "think_boxed"}]
    (chosen,) = choose([json.dumps(components)])
    found = audit_chosen(chosen, [Example("?", ("red",), "blue", same={"a word for it": "crimson"})])
    assert [(finding.case, finding.style) for finding in found.findings] == [("a word for it", "think_boxed")]


def test_the_users_own_questions(tmp_path):
    path = tmp_path / "mine.jsonl"
    rows = [
        {"question": "2 + 1 ?", "gold": 3, "same": {"word": "three"}, "other": ["-3"]},
        {"question": "2 + 2 ?", "gold": ["4"], "wrong": "5"},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    first, second = read_examples(path)
    assert (first.gold, first.wrong, first.same, first.other) == (
        ("3",),
        "4",
        {"word": "three"},
        {"something else (1)": "-3"},
    )
    assert (second.gold, second.wrong) == (("4",), "5")
    path.write_text(json.dumps(rows[0]))
    with pytest.raises(ValueError, match="row 1: needs a wrong answer"):
        read_examples(path)
    (exact, number) = choose(["exact", "number"])
    assert news(audit_chosen(exact, [first, second])) == {("unrewarded", "word")}
    assert news(audit_chosen(number, [first, second])) == set()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "has no rows"),
        ('{"question": "?"}', "row 1: has no gold answer"),
        ('{"gold": "3", "wrongs": "4"}', r"row 1: unknown key 'wrongs'; did you mean 'wrong'\?"),
        ('{"gold"', "line 1: not JSON"),
    ],
)
def test_questions_that_can_not_be_used(tmp_path, line, message):
    (tmp_path / "mine.jsonl").write_text(line)
    with pytest.raises(ValueError, match=message):
        read_examples(tmp_path / "mine.jsonl")


def test_a_format_that_does_not_exist_is_refused():
    (chosen,) = choose(["exact"])
    with pytest.raises(ValueError, match=r"there is no format 'thnk'; did you mean 'think'\?"):
        audit_chosen(chosen, styles=["thnk"])
