"""The words that announce an answer: "The answer is", "Therefore,", "It is", 答案是.

They announce an answer without stating one: what follows is not changed, not even a denial or a second answer.
"""

from __future__ import annotations

import re

_OPENER = (
    r"(?:(?:so|thus|hence|therefore|then|finally|overall|well|sure|okay|ok|in conclusion|in summary|in short)"
    r"|(?:based on|according to|looking at|judging by|from|in) (?:the|this) "
    r"(?:given |provided |above )?(?:image|picture|photo|photograph|figure|chart|diagram|table|text|question))"
)
_ANSWER = (
    r"(?:(?:the|my|our|your) )?(?:(?:final|correct|right|best|short|exact) ){0,2}"
    r"(?:answer|result|solution)(?: (?:to|of|for) (?:the|this) (?:question|problem))?"
)
_IS = r"(?: (?:is|was|would be|should be|must be)(?![\w']) ?:?| ?[:=])"
_THIS_IS = r"(?:(?:it|this|that) is|(?:it|that)'s|(?:they|these|those) are|they're)(?![\w'])"
_I_THINK = r"i (?:think|believe|guess|would say)(?:,? that)?(?![\w'])|i'd say(?![\w'])"
_ENGLISH = (
    rf"{_OPENER} ?[,:]",
    rf"(?:{_OPENER},? )?(?:{_ANSWER}{_IS}|{_THIS_IS}|{_I_THINK})",
    "=(?=[ 0-9])",
)
_OTHERS = (
    r"(?:所以|因此|因而|故|综上(?:所述)?|可知)?[,，]? ?(?:最终|最后|正确|标准|本题)?的?"
    r"(?:答案|结果|结论)(?:应该?)?(?:是|为|[:：])+",
    r"(?:所以|因此|故)?[,，]? ?(?:这|那|它|他|她)?应?该?是(?![的否非不吗])(?=.)",
    r"(?:la )?respuesta(?: correcta| final)?(?: es(?!\w)| ?:)",
    r"(?:la )?réponse(?: correcte| finale)?(?: est(?!\w)| ?:)",
    r"(?:die )?(?:richtige )?antwort(?: ist(?!\w)| lautet(?!\w)| ?:)",
    r"(?:правильный )?ответ ?[:—-]",
    r"(?:答え|正解|解答)(?:は|[:：])",
    r"(?:정답|답)(?:은|[:：])",
)
_LEAD_IN = re.compile(rf"(?:{'|'.join((*_ENGLISH, *_OTHERS))})\s*", re.IGNORECASE)


def without_lead_in(text: str) -> str:
    """The text without the words at its beginning that announce an answer; unchanged if nothing else would be left."""
    found = _LEAD_IN.match(text.replace("’", "'"))
    rest = text[found.end() :] if found else ""
    return rest if any(character.isalnum() for character in rest) else text
