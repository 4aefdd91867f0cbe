"""Rows that are chats: LLaVA's, ShareGPT's, OpenAI's messages, verl's prompts, TRL's prompts and completions.

A row is one question: what the user says, after the system's words, and the assistant's one answer to it. A chat of
several rounds is refused: its later questions can't be asked without the policy's own earlier answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cpt.common.keys import shown
from cpt.tasks.rows.columns import pictures_of
from cpt.tasks.rows.fields import Fields, marked
from cpt.tasks.rows.golds import gold_of
from cpt.tasks.rows.values import answers_in, list_in, pictures_in, text_of
from cpt.tasks.sources.base import Row

_ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant",
    "model": "assistant", "system": "system", "developer": "system",
}  # fmt: skip
_UNSEEN = ("videos", "video", "audios", "audio", "tools")


@dataclass(frozen=True)
class ChatLayout:
    """Reads rows with turns.

    Attributes:
        turns: the columns with turns or texts, one after another: `messages`, or `prompt` and `completion`.
        answer: where the gold answer is if no turn has it: a column, and a key of its value.
        images, system, id, reasoning: further columns.
    """

    turns: tuple[str, ...]
    answer: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    system: str | None = None
    id: str | None = None
    reasoning: str | None = None

    @property
    def hides(self) -> frozenset[str]:
        """See `cpt.tasks.rows.Layout`."""
        return frozenset(filter(None, (*self.turns, *self.answer[:1], self.reasoning)))

    def __call__(self, row: Row) -> Fields:
        """See `cpt.tasks.rows.layout_of`."""
        for name in _UNSEEN:
            if row.get(name):
                raise ValueError(f"it has {name}: only texts and pictures can be used")
        turns, inside = _turns(row, self.turns)
        system = [text for role, text in turns if role == "system"]
        spoken = [(role, text) for role, text in turns if role != "system"]
        questions = [text for role, text in spoken if role == "user"]
        if len(questions) != 1 or len(spoken) > 2 or spoken[0][0] != "user":
            order = ", ".join(role for role, _ in spoken) or "nobody"
            raise ValueError(f"a row is one question and its answer; here speak {order}: make a row of each question")
        golds = [gold_of(text) for text in self._golds(row, spoken)]
        fields = Fields(
            question=questions[0],
            answers=tuple(answer for _, answer in golds if answer),
            reasoning=self._column(row, self.reasoning) or next((reasoning for reasoning, _ in golds), ""),
            system="\n\n".join(filter(None, (self._column(row, self.system), *system))),
            id=self._column(row, self.id),
        )
        if inside and any(picture is not None for picture in inside):
            return marked(fields, inside)
        return marked(fields, pictures_of(row, self.images))

    def _golds(self, row: Row, spoken: Sequence[tuple[str, str]]) -> list[str]:
        if not self.answer:
            return [text for role, text in spoken if role == "assistant"]
        value: Any = row.get(self.answer[0])
        for key in self.answer[1:]:
            value = value.get(key) if isinstance(value, Mapping) else None
        return [text_of(answer) for answer in answers_in(value)]

    @staticmethod
    def _column(row: Row, name: str | None) -> str:
        return "" if name is None else text_of(row.get(name))


def _turns(row: Row, columns: Sequence[str]) -> tuple[list[tuple[str, str]], list[Any]]:
    """(role, text) of each turn, and the pictures that stand inside of the turns."""
    turns: list[tuple[str, str]] = []
    pictures: list[Any] = []
    for name, speaker in zip(columns, ("user", "assistant"), strict=False):
        value = row.get(name)
        said = list_in(value, dict) if isinstance(value, str) else value
        if value is not None and not isinstance(said, list | tuple):
            if len(columns) == 1:
                raise ValueError(f"{name} is {shown(value)}, not a list of turns")
            turns.append((speaker, text_of(value)))
            continue
        for turn in said or ():
            if not isinstance(turn, Mapping):
                raise ValueError(f"{name} has {shown(turn)} where a turn should be: {{role: …, content: …}}")
            text, shown_in = _content(turn.get("content") if turn.get("role") else turn.get("value"))
            turns.append((_role(turn), text))
            pictures += shown_in
    return turns, pictures


def _role(turn: Mapping[str, Any]) -> str:
    named = turn.get("role") or turn.get("from")
    if not isinstance(named, str) or named not in _ROLES:
        raise ValueError(f"a turn of {shown(named)}: only user (human), assistant (gpt) and system are known")
    return _ROLES[named]


def _content(content: Any) -> tuple[str, list[Any]]:
    """The text of a turn, and the pictures in its blocks, whose places are marked; None for a place without one."""
    if content is None or isinstance(content, str):
        return content or "", []
    if not isinstance(content, list | tuple):
        raise ValueError(f"{shown(content)} where a turn's content should be")
    text, pictures = "", []
    for block in content:
        kind = block.get("type") if isinstance(block, Mapping) else None
        if isinstance(block, str) or kind == "text":
            text += block if isinstance(block, str) else text_of(block.get("text"))
        elif kind in ("image", "image_url"):
            source = next((block[name] for name in ("image", "path", "url", "image_url") if block.get(name)), None)
            pictures += pictures_in(source)
            text += "<image>"
        else:
            raise ValueError(f"a block of type {shown(kind)}: only text and image are known")
    return text, pictures
