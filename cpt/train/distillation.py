"""SDFT: what the teacher is asked about a batch of rollouts.

The loss is `cpt.methods.sdft`, a plug-in of `cpt.train.step`. TRL's own SDFTTrainer (1.16, experimental) is for
text: neither its generation nor its forward passes are given pixels, and of a prompt its teacher keeps the text alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cpt.methods.sdft import SDFT
from cpt.rollout.encode import encode_prompts
from cpt.tasks import get_task
from cpt.tasks.chat import with_text
from cpt.train.batch import PolicyBatch
from cpt.train.scoring import side_by_side

if TYPE_CHECKING:
    from cpt.models.inputs import ModelInputs
    from cpt.types import PromptStyle, Sample


class Demonstrations:
    """What the teacher is asked: the sample's chat, and after its question a gold answer to it.

    Args:
        prompt: how the question is asked.
    """

    def __init__(self, method: SDFT, prompt: PromptStyle) -> None:
        self.method, self.prompt = method, prompt

    def chat(self, plain: Sequence[Mapping[str, Any]], sample: Sample) -> list[dict[str, Any]]:
        """The sample's `plain` chat, its pictures' places included, with the demonstration at the end of its turn."""
        assert plain[-1]["role"] == "user", "the question is the last thing that is said"
        answer = get_task(sample.task).target(sample, self.method.target_style, self.prompt)
        return with_text(plain, self.method.shown(answer))

    def prompts(self, processor: Any, rows: Sequence[Mapping[str, Any]], longest: int, limit: int | None) -> list[Any]:
        """Token ids of the teacher's prompts, pictures expanded as in the policy's.

        Args:
            rows: `cpt.train.data.policy_rows`, one per prompt.
            longest: tokens of a completion.
            limit: positions that the model has; None for no limit.

        Raises:
            ValueError: a prompt and a completion are more than that.
        """
        chats = [self.chat(row["prompt"], row["sample"]) for row in rows]
        encoded = encode_prompts(processor, chats, [row["images"] for row in rows])
        for row, ids in zip(rows, encoded, strict=True):
            if limit is not None and len(ids) + longest > limit:
                raise ValueError(
                    f"sample {row['sample'].id}: the question with its demonstration has {len(ids)} tokens, which with "
                    f"{longest} of a completion is more than the model's {limit}; shorten method.demonstration, or "
                    "choose a shorter method.target_style or max_completion_length"
                )
        return encoded


def with_teacher(batch: PolicyBatch, asked: Sequence[Sequence[int]], inputs: ModelInputs) -> PolicyBatch:
    """The batch with the teacher's prompts, padded on the left. The policy's pictures are the teacher's, too.

    Args:
        asked: P prompts, for the P groups of the batch.
    """
    group = len(batch.prompt_ids) // len(asked)
    ids, mask = side_by_side(
        [one for one in asked for _ in range(group)], inputs.tokenizer.pad_token_id, "left", batch.prompt_ids.device
    )
    if inputs.image is not None:
        seen = [
            (own.eq(inputs.image) & real.bool()).sum(1)
            for own, real in ((batch.prompt_ids, batch.prompt_mask), (ids, mask))
        ]
        assert seen[0].equal(seen[1]), "the teacher does not see what the policy sees"
    return replace(batch, teacher_ids=ids, teacher_mask=mask)
