"""A judge that is a model folder in the run's own engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cpt.evaluate.evaluators.base import Engines
from cpt.judge.asked import Keep, Question, Reply
from cpt.rollout.encode import encode_prompts
from cpt.rollout.engine import request_seed
from cpt.types import GenerationRequest, SamplingParams

TOGETHER = 64  # questions of one call: what a kill costs


@dataclass
class LocalJudge:
    """See `cpt.judge.asked.Judge`.

    Attributes:
        version: of the judge's weights in the engines.
        processor: the folder's, with its chat template.
        limit: tokens of prompt and reply together; None if the folder does not say.
    """

    pool: Engines
    version: str
    processor: Any
    limit: int | None
    max_tokens: int
    seed: int = 0

    def ask(self, questions: Sequence[Question], keep: Keep) -> None:
        """See `cpt.judge.asked.Judge.ask`. A question that is too long for the model fails."""
        params = SamplingParams(max_tokens=self.max_tokens, temperature=0.0)
        for start in range(0, len(questions), TOGETHER):
            some = questions[start : start + TOGETHER]
            prompts = encode_prompts(self.processor, [self._chat(one) for one in some], [one.images for one in some])
            fitting, requests = [], []
            for question, ids in zip(some, prompts, strict=True):
                if self.limit is not None and len(ids) + self.max_tokens > self.limit:
                    told = (
                        f"{len(ids)} tokens and a reply of {self.max_tokens} exceed the judge's limit of {self.limit}"
                    )
                    keep(question, Reply(failure=told))
                    continue
                fitting.append(question)
                requests.append(GenerationRequest(ids, tuple(question.images), request_seed("judge", self.seed)))
            answers = self.pool.generate(requests, params, version=self.version) if requests else []
            for question, (answer, *_) in zip(fitting, answers, strict=True):
                keep(question, Reply(answer.text, cut=answer.finish_reason == "length"))

    def _chat(self, question: Question) -> list[dict[str, Any]]:
        """One turn. Special tokens written out in data would be read as such: they are broken by a space."""
        text = question.text
        for token in self._special():
            text = text.replace(token, f"{token[0]} {token[1:]}")
        return [
            {"role": "user", "content": [*({"type": "image"} for _ in question.images), {"type": "text", "text": text}]}
        ]

    def _special(self) -> list[str]:
        tokenizer = getattr(self.processor, "tokenizer", self.processor)
        added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        return sorted({*added, *tokenizer.all_special_tokens}, key=len, reverse=True)
