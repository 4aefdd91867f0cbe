"""A reward with a hole in it: "I can't tell" is safe whatever is asked.

It looks sensible, since naming a colour that is not there should cost something. But an abstention pays the same where
there is an answer as where there is none, so a policy that is not sure of itself earns most by never answering.
`cpt rewards audit` and the study in recipes/reward_study.yaml show both sides of it.
"""

from rewards.extract import read_answer
from rewards.score import Score

ABSTENTION = "unanswerable"


def score(completion, *, gold, template="direct", abstain=0.8, **_):
    """1 for the right answer, `abstain` for "unanswerable" whatever is asked, 0 for everything else."""
    said = read_answer(completion, "strict", template)
    right, abstained = float(said.answer in gold), float(said.answer == ABSTENTION)
    return Score(max(right, abstain * abstained), {"right": right, "abstained": abstained}, said.answer, said.status)
