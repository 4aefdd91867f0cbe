"""Pure reward functions: from a text to a score with parts. `names()` lists them, `make(name)` makes one.

>>> import rewards
>>> rewards.make("accuracy-format")("<answer> 3 </answer>", gold=["3"]).value
1.0
"""

from rewards.batch import as_trl_reward
from rewards.compose import Composite
from rewards.registry import COLUMNS, get, make, names
from rewards.score import Reward, Score, Status

__all__ = ["COLUMNS", "Composite", "Reward", "Score", "Status", "as_trl_reward", "get", "make", "names"]
