"""SDFT of one stage: the rollouts of the policy gradients, another loss, and what the teacher is asked.

Built on `StageGRPOTrainer`, which is TRL's GRPOTrainer with rollouts from the pool. TRL's own SDFTTrainer (1.16,
experimental) is for text: neither its generation nor its forward passes are given pixels, and of a prompt its teacher
keeps the text alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from trl import GRPOTrainer

from cpt.methods.sdft import SDFT
from cpt.rollout.encode import encode_prompts
from cpt.tasks import get_task
from cpt.train.data import with_text
from cpt.train.policy import StageGRPOTrainer
from cpt.train.prompts import first_of_runs, run_lengths

if TYPE_CHECKING:
    from cpt.plan.stages import StagePlan
    from cpt.types import PromptStyle, Sample


class WithoutPolicyGradient(GRPOTrainer):
    """GRPOTrainer with a loss of 0, to which plug-ins add. Put it after `StageGRPOTrainer`: it stands in TRL's place.

    The completions are scored as for the policy gradient, for the hidden states that the plug-ins take, for the gap
    between engine and trainer, and for the entropy.
    """

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        logps, entropies, _ = self._get_per_token_logps_and_entropies(
            model,
            torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1),
            torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
            inputs["completion_ids"].shape[1],
            compute_entropy=True,
        )
        mask = inputs["completion_mask"]
        sums = self.accelerator.reduce(torch.stack([(entropies.detach() * mask).sum(), mask.sum()]), reduction="sum")
        self._metrics["train"]["entropy"].append((sums[0] / sums[1]).item())
        nothing: torch.Tensor = logps.new_zeros(())
        return nothing


class StageSDFTTrainer(StageGRPOTrainer, WithoutPolicyGradient):
    """Adds the teacher's prompts to every batch of rollouts."""

    demonstrations: Demonstrations

    def at_stage(self, stage: StagePlan) -> None:
        """Also takes in what the teacher is shown."""
        super().at_stage(stage)
        assert isinstance(stage.method, SDFT)
        self.demonstrations = Demonstrations(stage.method, stage.prompt)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        # The share of groups from which a policy gradient learns nothing. Here all are learned from.
        self._metrics["train"].pop("frac_reward_zero_std")
        config = self.accelerator.unwrap_model(self.model).config
        asked = self.demonstrations.prompts(self.processing_class, inputs, self.max_completion_length, config)
        return output | teacher_prompts(asked, output, self._tokenizer.pad_token_id, config)


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

    def prompts(self, processor: Any, rows: Sequence[Mapping[str, Any]], longest: int, config: Any) -> list[list[int]]:
        """Token ids of the teacher's prompts, pictures expanded as in the policy's; neighbours of one sample share one.

        Args:
            rows: `cpt.train.data.policy_rows`.
            longest: tokens of a completion.
            config: the model's.

        Raises:
            ValueError: a prompt and a completion are more than the model has positions for.
        """
        counts = run_lengths([row["sample"].id for row in rows])
        firsts = first_of_runs(rows, counts)
        chats = [self.chat(row["prompt"], row["sample"]) for row in firsts]
        encoded = encode_prompts(processor, chats, [row["images"] for row in firsts])
        limit = getattr(config.get_text_config(), "max_position_embeddings", None)
        for row, ids in zip(firsts, encoded, strict=True):
            if limit is not None and len(ids) + longest > limit:
                raise ValueError(
                    f"sample {row['sample'].id}: the question with its demonstration has {len(ids)} tokens, which with "
                    f"{longest} of a completion is more than the model's {limit}; shorten method.demonstration, or "
                    "choose a shorter method.target_style or max_completion_length"
                )
        return [ids for ids, count in zip(encoded, counts, strict=True) for _ in range(count)]


def teacher_prompts(
    asked: Sequence[Sequence[int]], output: Mapping[str, Any], pad: int, config: Any
) -> dict[str, torch.Tensor]:
    """The teacher's prompts [B, P'], padded on the left, for `rollout_batch`: TRL cuts and shuffles them like the rest.

    Args:
        asked: B prompts.
        output: TRL's rollouts, whose pictures are the teacher's, too.
        config: the model's.
    """
    own, device = output["prompt_ids"], output["prompt_ids"].device
    rows = [torch.tensor(list(ids), device=device) for ids in asked]
    ids, mask = (
        torch.nn.utils.rnn.pad_sequence(some, batch_first=True, padding_value=value, padding_side="left")
        for some, value in ((rows, pad), ([torch.ones_like(row) for row in rows], 0))
    )
    found = {"teacher_prompt_ids": ids, "teacher_prompt_mask": mask}
    image = getattr(config, "image_token_id", None)
    if image is not None:
        pictures = ids.eq(image) & mask.bool()
        ours = own.eq(image) & output["prompt_mask"].bool()
        assert pictures.sum(1).equal(ours.sum(1)), "the teacher does not see what the policy sees"
    return found
