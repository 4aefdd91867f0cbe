"""Wordings that say that a question has no answer."""

from __future__ import annotations

import re
from itertools import product

from rewards import prose
from rewards.extract import bare

UNANSWERABLE = "unanswerable"
LONGEST = 150
"""A longer text is an answer of its own."""

# "it cannot be determined from the image" and "can't determine" come down to "cannot determine".
_FILLER = frozenset(
    prose.words(
        "the a an this that these there it is are am was it's that's i i'm we we're you to be been from of in on "
        "by with for based given provided shown question image picture photo figure sorry apologies what which "
        "really clearly 抱歉 对不起 不好意思 but have there's "
        "just at all exactly content text"
    )
)
_VERBS = prose.words(
    "answer answered tell determine determined see seen say said know known identify identified read recognise "
    "recognised recognize recognized make discern distinguish judge find describe verify confirm infer"
)
_UNABLE = ("cannot", "unable", "impossible", "not possible", "not able", "hard", "difficult", "could not", "do not")
_WORDINGS = frozenset(
    (
        *(UNANSWERABLE, "not answerable", "unsuitable", "not suitable", "unknown", "not known", "unclear", "not clear"),
        *("not visible", "not legible", "illegible", "unreadable", "not readable", "indeterminate", "undetermined"),
        *("not sure", "unsure", "not certain", "uncertain", "no idea", "no clue", "not determined", "n a", "cannot"),
        *("insufficient information", "insufficient data", "insufficient context", "insufficient detail"),
        *("not enough information", "not enough data", "not enough context", "not enough detail", "not enough details"),
        *(f"not enough information {verb}" for verb in _VERBS),
        *(f"{unable} {verb}" for unable, verb in product(_UNABLE, _VERBS)),
        *(f"{unable} {verb} out" for unable, verb in product(_UNABLE, ("make", "figure"))),
    )
)
"""What is left of a text when its filler is taken out."""

_TOO = re.compile(
    r"(?:too|very|so) (?:blurry|blurred|dark|small|tiny|far|far away|bright|dim|fuzzy|grainy|unclear|faint|pixelated|"
    r"low resolution|low quality|out focus)"
    rf"(?: (?:{'|'.join(_VERBS)})(?: out)?)?"
)
"""A reason that is an answer by itself: too blurry to read."""
_REASONS = frozenset(
    prose.words(
        "too very so not because since as due and but blurry blurred blur dark small tiny far away bright dim fuzzy "
        "grainy unclear clear faint pixelated low poor resolution quality out focus visible legible readable hidden "
        "covered obscured cropped cut off lighting light label screen missing please try again another better"
    )
)
"""Words that only explain why there is no answer; what has another word in it may be an answer."""
_CHINESE = re.compile(
    r"(?:抱歉|对不起|不好意思)?(?:我|这|该|此|图片?|图中|图像|照片|问题|这个问题|从图中|根据图片|文字|内容)*(?:是|太|实在|完全|都|也)*"
    r"(?:看不[清见到出][楚来]?|不清[楚晰]|模糊(?:不清)?|太?暗|不知道?|不确定|未知|不明确?"
    r"|无法得?(?:回答|确定|判断|辨认|辨别|看清|得知|知道|识别|读取)"
    r"|不能(?:回答|确定|判断|辨认|看清|识别)|没有?足够的?信息|信息不足|回答不了|无法)(?:这个问题|该问题|内容|文字|答案)?了?"
)
_CLAUSE = re.compile(r"[.,;:!()\n—–，。；！：（）]+|\s-\s|(?<=\s)(?:because|since|as)(?=\s)")


def as_unanswerable(text: str) -> str:
    """`unanswerable` for any of its usual wordings, the text as `rewards.extract.bare` has it for all else.

    A clause has to be such a wording, and every other one too, or no more than a reason for it ("unanswerable, it is
    too dark"). Whatever else is said may be an answer, so then the text stays.
    """
    said = bare(text)
    if len(text) > LONGEST:
        return said
    plain = (
        text.lower().replace("’", "'").replace("can't", "cannot").replace("can not", "cannot").replace("n't", " not")
    )
    clauses = [core for clause in _CLAUSE.split(plain) if (core := _core(clause))]
    declined = [_declines(clause) for clause in clauses]
    if any(declined) and all(no or _explains(clause) for no, clause in zip(declined, clauses, strict=True)):
        return UNANSWERABLE
    return said


def _core(clause: str) -> str:
    """The words of a clause that are no filler."""
    return " ".join(word for word in prose.words(clause.replace("/", " ")) if word not in _FILLER)


def _declines(core: str) -> bool:
    return core in _WORDINGS or bool(_TOO.fullmatch(core)) or bool(_CHINESE.fullmatch(core))


def _explains(core: str) -> bool:
    return _REASONS.issuperset(core.split())
