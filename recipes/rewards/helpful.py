"""A reward with a hole in it: an attempt always helps, a refusal never does.

Right answers pay most, so it looks like accuracy with partial credit. But where the right answer is that there is none,
saying so pays nothing and making something up pays: a policy learns to.
`cpt rewards audit` and the study in recipes/reward_study.yaml show both sides of it.
"""

from rewards.extract import read_answer
from rewards.score import Score

REFUSAL = "unanswerable"


def score(completion, *, gold, template="direct", attempt=0.6, **_):
    """1 for a right answer, `attempt` for any other, 0 for a refusal, right or not, and for what is in no format."""
    said = read_answer(completion, "strict", template)
    attempted = float(said.status == "ok" and said.answer != REFUSAL)
    right = attempted * (said.answer in gold)
    return Score(max(right, attempt * attempted), {"right": right, "attempted": attempted}, said.answer, said.status)
