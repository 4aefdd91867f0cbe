"""What each reward is attacked with: questions of its kind, and the limits that its docstring admits.

A new reward gets a line in `PLANS`. One that has none, such as a user's own function, is tried on `WORD`, `COUNT` and
`NONE`. The words of a known limit have to stand in the docstring of the reward, or of one that its `Limits:` name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rewards.lab.attacks import Example
from rewards.lab.audit import Plan

WORD = Example(
    question="Is the ball red or blue ?",
    gold=("red",),
    wrong="blue",
    candidates=("red", "blue", "green"),
    same={
        "case": "Red",
        "capitals": "RED",
        "full stop": "red.",
    },
    other={
        "part of the word": "re",
        "longer word": "reds",
        "bold, both": "**red** **blue**",
        "two lead-ins": "The answer is red. The answer is blue.",
        "lead-in and denial": "The answer is not red.",
        "equation of answers": "red = blue",
        "boxes in the tag": "\\text{red} \\text{blue}",
        "near word": "rod",
        "repeated": "red red red",
        "more exact": "dark red",
    },
)
COUNT = Example(
    question="How many balls are there , 3 or 4 ?",
    gold=("3",),
    wrong="4",
    candidates=("1", "2", "3", "4", "5"),
    same={"full stop": "3."},
    other={
        "false equation": "1 + 3 = 3",
        "equation of answers": "3 = 4",
        "two equations": "x = 3 = 4",
        "unequal": "x != 3",
        "unevaluated": "1 + 2",
        "several in brackets": "(3, 4)",
        "sign": "-3",
        "decimals": "3.5",
        "decimal point": ".3",
        "power of ten": "30",
        "repeated digit": "33",
        "percent": "3%",
        "superscript": "³",
        "range": "3-4",
        "thousands": "3,000",
        "number word": "four",
    },
)
# What rewards of ours read; a user's own need not.
DECORATED = replace(
    WORD,
    same={
        **WORD.same,
        "bold": "**red**",
        "LaTeX": "\\text{red}",
        "code": "`red`",
        "quotes": "“red”",
        "brackets": "(red)",
        "lead-in": "The answer is red.",
        "statement": "It is red",
        "fullwidth": "ｒｅｄ",
        "invisible": "red\u200b",
    },
)
WORKED_OUT = replace(
    COUNT,
    same={**COUNT.same, "formula": "$3$", "equation": "1 + 2 = 3", "name": "x = 3", "fullwidth": "３"},
)
YES = Example(
    question="Is there a red ball , yes or no ?",
    gold=("yes",),
    wrong="no",
    candidates=("yes", "no"),
    same={
        "case": "Yes",
        "full stop": "yes.",
        "synonym": "yeah",
        "sentence": "Yes, there is.",
        "no of a noun": "Yes. There is a ball, but no box.",
        "truth": "True",
        "echo": "It is",
        "Chinese": "是的",
        "lead-in": "The answer is **yes**.",
    },
    other={
        "not sure": "maybe",
        "part of a word": "yesterday",
        "nothing": "no idea",
        "both": "yes and no",
        "both, apart": "Yes, it is. No, it is not.",
        "taken back": "Yes, there is no red ball.",
        "truth of both": "True or false",
        "both in Chinese": "是的，没有",
        "asked in Chinese": "是不是",
        "unable": "It is not clear",
        "number": "1",
    },
)
NO = Example(
    question="Is there a red ball , yes or no ?",
    gold=("no",),
    wrong="yes",
    candidates=("yes", "no"),
    same={
        "case": "NO",
        "full stop": "no.",
        "synonym": "nope",
        "sentence": "No, there is none.",
        "denial": "There is no red ball.",
        "Chinese": "没有",
    },
    other={
        "not sure": "not sure",
        "part of a word": "nobody",
        "nothing": "no idea",
        "refusal": "no answer",
        "taken back": "No, it is.",
        "both": "No, the answer is yes",
        "unable": "I can't tell",
        "unable, denied": "It is not possible to tell",
        "unable in Chinese": "不知道",
        "no information": "没有足够的信息",
    },
)
UNANSWERABLE = Example(
    question="What colour is the ball ?",
    gold=("unanswerable",),
    wrong="blue",
    candidates=("red", "blue", "unanswerable"),
    same={
        "case": "Unanswerable",
        "unable": "can't tell",
        "unknown": "I do not know",
        "image": "unsuitable image",
        "blurry": "too blurry to read",
        "apology": "Sorry, I can't see the image.",
        "reason": "unanswerable, it is too dark",
        "Chinese": "看不清",
    },
    other={
        "opposite": "answerable",
        "knows": "I know",
        "clear": "clear",
        "explained away": "not blue",
        "with a guess": "not sure, maybe blue",
        "with an answer": "unanswerable, but blue",
        "answer as the reason": "unanswerable because it is blue",
        "answer first": "blue, but I'm not sure",
        "not too": "not too blurry",
        "sure": "sure",
    },
)
ANSWERABLE = Example(
    question="What colour is the ball ?",
    gold=("blue",),
    wrong="red",
    candidates=("red", "blue", "unanswerable"),
    same={"case": "Blue"},
    other={
        "declined": "unanswerable",
        "declined in words": "I do not know",
        "blurry": "too blurry to see",
        "with a doubt": "blue, but I'm not sure",
    },
)
NONE = Example(
    question="What colour is the ball , if there is one ?",
    gold=("unanswerable",),
    wrong="blue",
    candidates=("red", "blue", "unanswerable"),
)
LETTER = Example(
    question="Which shape is it ? A circle B square C triangle D cross",
    gold=("B",),
    wrong="C",
    choices=("circle", "square", "triangle", "cross"),
    same={
        "small letter": "b",
        "brackets": "(B)",
        "bracket": "B)",
        "full stop": "B.",
        "word": "option B",
        "sentence": "The answer is B.",
        "text": "square",
        "letter and text": "B: square",
        "brackets and text": "(B) Square",
        "dash and text": "B-square",
        "fullwidth": "Ｂ",
        "Chinese": "故选B",
        "Chinese lead-in": "答案是B",
        "bold": "**B. square**",
    },
    other={
        "letter with another text": "B circle",
        "another letter with the text": "A square",
        "letters together": "AB",
        "all letters together": "ABCD",
        "number": "2",
        "no such letter": "E",
        "part of a word": "Bold",
        "dash and another text": "B-circle",
        "denied in Chinese": "不选B",
        "two in Chinese": "选A或B",
        "both in Chinese": "A和B",
        "part of the text": "squ",
        "two texts": "circle square",
    },
)
OPTION_TEXT = Example(
    question=LETTER.question,
    gold=("square",),
    wrong="circle",
    choices=LETTER.choices,
    same={"letter": "B", "capitals": "SQUARE", "letter and text": "B. square"},
    other={"another letter with the text": "A square", "part of the text": "squ", "longer word": "squares"},
)
OPTION_NUMBER = Example(
    question="How many sides has it ? A 3 B 4 C 5 D 6",
    gold=("4",),
    wrong="5",
    choices=("3", "4", "5", "6"),
    same={"letter": "B", "decimals": "4.0", "letter and text": "B. 4", "formula": "$4$"},
    other={"another letter with the text": "A. 4", "near": "4.5", "two numbers": "4 or 5", "sign": "-4", "index": "1"},
)
LENGTH = Example(
    question="Is the wall 3.5 m or 4.5 m long ?",
    gold=("3.5 m",),
    wrong="4.5 m",
    same={
        "zero at the end": "3.50 m",
        "another unit": "350 cm",
        "no space": "3.5m",
        "unit in words": "3.5 metres",
        "fraction": "7/2 m",
        "plus sign": "+3.5 m",
        "no unit": "3.5",
        "LaTeX": "3.5 \\text{ m}",
        "two units that add up": "3 m 50 cm",
        "named": "x = 3.5 m",
    },
    other={
        "sign": "-3.5 m",
        "unit a thousand times larger": "3.5 km",
        "smaller unit": "3.5 cm",
        "another kind of unit": "3.5 kg",
        "power of ten": "35 m",
        "other digits": "3.1 m",
        "two points": "3.5.1 m",
        "decimal comma": "3,5 m",
        "half": "half of 3.5 m",
        "comparison": "more than 3.5 m",
        "root": "√3.5 m",
        "two units": "3.5 m 5 cm",
        "units that add up to more": "3 m 50 cm 9 mm",
        "inches": "3.5 in",
        "currency": "$3.5",
        "million": "3.5 M",
        "feet and inches": "3'5\"",
    },
)
SEVEN = Example(
    question="How many balls are there , 7 or 8 ?",
    gold=("7",),
    wrong="8",
    same={
        "number word": "seven",
        "capital": "Seven",
        "decimals": "7.0",
        "plus sign": "+7",
        "full stop": "7.",
        "Chinese": "七个",
        "sum": "3 + 4 = 7",
        "twice": "7 (seven)",
        "about": "about 7",
        "fullwidth": "７",
    },
    other={
        "sign": "-7",
        "sign in words": "minus seven",
        "percent": "7%",
        "repeated digit": "77",
        "decimals that count": "7.5",
        "decimal point": ".7",
        "power of ten": "7e1",
        "another number word": "seventeen",
        "tens": "seventy",
        "fraction": "7/8",
        "range": "7-8",
        "superscript": "⁷",
        "root": "√7",
        "thousands": "7,000",
        "typographic minus": "–7",
        "long dash": "—7",
        "wide minus": "－7",
        "at least": "7+",
        "at most": "up to 7",
        "false sum": "3 + 5 = 7",
        "false equation": "8 = 7",
        "two equations": "x = 7 = 8",
        "sum alone": "3 + 4",
        "range in words": "7 to 8",
        "wider range": "1-100",
        "Chinese denial": "不是七",
        "Chinese hedge": "七或八",
        "about, in Chinese": "七十多",
        "kilo": "7k",
        "half more": "7½",
        "times": "7x",
        "time": "7:00",
        "both in words": "seven eight",
        "list": "5 6 7 8 9",
        "grouped list": "7 000 008",
    },
)
THOUSAND = Example(
    question="How many people live there ?",
    gold=("1,250",),
    wrong="1,350",
    same={"no separator": "1250", "exponent": "1.25e3", "decimals": "1250.0"},
    other={"point for comma": "1.250", "comma elsewhere": "12,50", "percent": "1250%", "sign": "-1,250", "cut": "250"},
)
SHARE = Example(
    question="Which share of the balls is red ?",
    gold=("50%",),
    wrong="40%",
    same={"space": "50 %", "word": "50 percent", "share": "0.5", "fraction": "1/2"},
    other={"power of ten": "5%", "double": "0.5%", "sign": "-50%", "inverse": "2", "another unit": "50 m"},
)
MONEY = Example(
    question="What does it cost , $5 or $6 ?",
    gold=("$5",),
    wrong="$6",
    same={"word": "5 dollars", "country": "US$5", "code": "USD 5", "behind": "5$", "cents": "500 cents", "none": "5"},
    other={"yen": "¥5", "euro": "€5", "yuan": "5元", "cents alone": "5 cents", "million": "$5M", "both": "$5 / €5"},
)
DURATION = Example(
    question="How long does it take ?",
    gold=("2.5 hours",),
    wrong="3.5 hours",
    same={
        "minutes": "150 min",
        "two units": "2 h 30 min",
        "clock": "2:30",
        "fraction": "2½ h",
        "words": "two and a half hours",
    },
    other={
        "days": "2.5 days",
        "weeks": "2.5 weeks",
        "minutes left out": "2 h",
        "two units or": "2 h or 30 min",
        "other minutes": "2 h 50 min",
        "time of day": "2:30 pm",
        "at least": "2.5+ hours",
    },
)
PLANCK = Example(
    question="What is Planck's constant in J s ?",
    gold=("6.63e-34",),
    wrong="9.1e-31",
    same={"power": "6.63 × 10^-34", "raised": "6.63·10⁻³⁴", "LaTeX": "6.63 \\times 10^{-34}"},
    other={
        "sign": "-6.63e-34",
        "exponent's sign": "6.63e34",
        "power of ten": "6.63e-33",
        "zero": "0",
        "digits": "6.62e-34",
    },
)
HALF = Example(
    question="What is 1/2 + 0 ?",
    gold=("1/2",),
    wrong="1/3",
    same={
        "decimal": "0.5",
        "LaTeX": "\\frac{1}{2}",
        "not reduced": "2/4",
        "dollars": "$\\frac{1}{2}$",
        "space": "1 / 2",
    },
    other={
        "sign": "-1/2",
        "inverse": "2/1",
        "near": "0.51",
        "digits": "12",
        "denominator": "1/20",
        "word": "half a dozen",
        "equation": "1/2=1/3",
    },
)
POLYNOMIAL = Example(
    question="Expand (x-1)(x+1)",
    gold=("x^2-1",),
    wrong="x^2-2",
    same={"factors": "(x-1)(x+1)", "spaces": "x^2 - 1", "order": "-1+x^2", "braces": "x^{2}-1"},
    other={"sign": "x^2+1", "term missing": "x^2", "square": "(x-1)^2", "swapped": "1-x^2", "variable": "y^2-1"},
)
ROOT = Example(
    question="How long is the diagonal of a unit square ?",
    gold=("\\sqrt{2}",),
    wrong="\\sqrt{3}",
    same={"power": "2^{1/2}", "no braces": "\\sqrt2", "dollars": "$\\sqrt{2}$"},
    other={"rounded": "1.41", "without root": "2", "sign": "-\\sqrt{2}", "both signs": "\\pm\\sqrt{2}"},
)
SUM = Example(
    question="What is 5 plus 7 ?",
    gold=("12",),
    wrong="13",
    same={"decimals": "12.0", "dollars": "$12$", "equation": "5+7=12", "number word": "twelve", "unit": "12 cm"},
    other={
        "unevaluated": "5+7",
        "another number word": "thirteen",
        "digits": "1 2",
        "variable": "12 m",
        "function": "12 sin",
        "false equation": "5+8=12",
        "another number": "5=12",
        "two solutions": "x=12 or x=13",
        "two solutions in words": "12 or 13",
        "less": "12 less",
        "range": "12-14",
        "bound": "x > 12",
        "interval": "[12, 13]",
    },
)
TWO = Example(
    question="Solve (x-1)(x-2) = 0",
    gold=("1, 2",),
    wrong="1, 3",
    same={"named": "x=1, x=2", "or": "x=1 or x=2", "order": "2, 1", "LaTeX": "x = 2 \\text{ or } x = 1"},
    other={"one": "x=1", "one too many": "x=1 or x=2 or x=3", "another name": "x=1 or y=2", "interval": "[1, 2]"},
)
ANNOTATORS = Example(
    question="What colour is the ball , red or blue ?",
    gold=(*["red"] * 7, "dark red", "dark red", "pink"),
    wrong="blue",
    same={"case": "Red", "article": "the red", "full stop": "red.", "quotes": "'red'", "bold": "**red**"},
    other={
        "several quoted": "'red' 'blue'",
        "said by one": "pink",
        "said by two": "dark red",
        "part of the word": "re",
        "longer word": "reds",
    },
)
COUNTED = Example(
    question="How many balls are there , 3 or 4 ?",
    gold=("3",) * 10,
    wrong="4",
    same={"number word": "three", "capital": "Three"},
    other={"sign": "-3", "decimals": "3.5", "repeated digit": "33", "another number word": "thirteen"},
)
BLURRED = Example(
    question="What colour is the ball ?",
    gold=(*["unanswerable"] * 6, "unsuitable image", *["grey"] * 3),
    wrong="blue",
    same={"case": "Unanswerable", "unable": "can't tell", "image": "unsuitable image"},
    other={"opposite": "answerable", "said by three": "grey"},
)
PHRASE = Example(
    question="Which is on the left , the red circle or the blue square ?",
    gold=("the red circle",),
    wrong="my small yellow cross",
    candidates=("the red circle", "the blue square", "my small yellow cross"),
    same={"case": "The Red Circle", "two spaces": "the  red circle"},
    other={"another colour": "the blue circle", "shared word": "the green triangle", "first word": "the"},
)
BOX = Example(
    question="Where is the red circle ?",
    gold=("[40, 40, 60, 60]",),
    wrong="[70, 70, 90, 90]",
    same={
        "round brackets": "(40, 40, 60, 60)",
        "two points": "(40, 40), (60, 60)",
        "decimals": "[40.0, 40.0, 60.0, 60.0]",
        "no brackets": "40 40 60 60",
        "JSON": '{"bbox_2d": [40, 40, 60, 60], "label": "red circle"}',
        "JSON list": "[{'Position': [40, 40, 60, 60], 'Confidence': 0.9}]",
        "JSON names": '{"x1": 40, "y1": 40, "x2": 60, "y2": 60}',
        "JSON size": '{"x": 40, "y": 40, "width": 20, "height": 20}',
        "names": "x1=40, y1=40, x2=60, y2=60",
        "nested": "[[40, 40], [60, 60]]",
        "spaces": "[40 40 60 60]",
        "semicolons": "[40; 40; 60; 60]",
        "tags": "<box>40, 40, 60, 60</box>",
        "exponents": "[4e1, 4e1, 6e1, 6e1]",
        "Chinese brackets": "【40，40，60，60】",
        "corners exchanged": "[60, 60, 40, 40]",
        "other corners": "[40, 60, 60, 40]",
    },
    other={
        "corner and size": "[40, 40, 20, 20]",
        "two boxes as JSON": '[{"bbox_2d": [40, 40, 60, 60]}, {"bbox_2d": [70, 70, 90, 90]}]',
        "two boxes by names": "x1=40 y1=40 x2=60 y2=60 x1=70 y1=70 x2=90 y2=90",
        "names and another box": "x1=40 y1=40 x2=60 y2=60 [70, 70, 90, 90]",
        "name missing": '{"x1": 40, "y1": 40, "x2": 60}',
        "size without names": "[40, 40, 20, 20]",
        "larger than any image": "[0, 0, 1e9, 1e9]",
        "denied": "not [40, 40, 60, 60]",
        "no area": "[40, 40, 40, 60]",
        "whole image": "[0, 0, 100, 100]",
        "everything": "[0, 0, 9999999, 9999999]",
        "infinite": "[-inf, -inf, inf, inf]",
        "not a number": "[nan, nan, nan, nan]",
        "not a number at the end": "[40, 40, 60, nan]",
        "five numbers": "[40, 40, 60, 60, 1]",
        "shifted": "[45, 45, 65, 65]",
    },
)
SET = Example(
    question="Which colours are there , red , blue or green ?",
    gold=("red, blue",),
    wrong="green",
    candidates=("red", "blue", "green", "yellow"),
    same={
        "order": "blue, red",
        "and": "red and blue",
        "JSON": '["red", "blue"]',
        "lines": "- red\n- blue",
        "case": "Red, Blue",
        "numbers": "1) red 2) blue",
        "slash": "red/blue",
        "arrow": "red → blue",
        "Chinese comma": "red、blue",
        "sentence": "The colours are red and blue.",
        "bold": "**red**, **blue**",
    },
    other={
        "either": "red or blue",
        "either in Chinese": "red或blue",
        "denied": "not red, blue",
        "everything": "red, blue, green, yellow",
        "everything with slashes": "red/blue/green/yellow",
        "everything in a sentence": "The colours are red, blue, green and yellow.",
        "one of two": "red",
        "one twice": "red, red",
        "one too many": "red, blue, green",
        "joined": "redblue",
    },
)
LIST = Example(
    question="Which colours are there from left to right ?",
    gold=("red, blue, green",),
    wrong="yellow",
    candidates=("red", "blue", "green", "yellow"),
    same={
        "and": "red, blue and green",
        "JSON": '["red", "blue", "green"]',
        "lines": "red\nblue\ngreen",
        "arrows": "red -> blue -> green",
        "then": "red, then blue, then green",
        "numbers": "1. red 2. blue 3. green",
    },
    other={
        "reversed": "green, blue, red",
        "one missing": "red, blue",
        "joined": "redbluegreen",
        "one too many": "red, blue, green, yellow",
        "every order": "red, blue, green, blue, red, green, green",
    },
)

_MENTIONED = "a candidate counts wherever it is mentioned alone"
_EXACT: Mapping[str, str] = {
    "more exact": _MENTIONED,
    "repeated": _MENTIONED,
}
_NFKC = "superscripts and other compatibility forms count as the plain ones (NFKC)"
_AGREEMENT = "Partial agreement earns partial credit"
_EDITS = "Look-alikes of another alphabet"
_ANYTHING = "nearly any text earns something (partial credit)"
_SHARED = "shared words earn something whatever they mean (partial credit)"
_BOXES: Mapping[str, str] = {
    "whole image": "the whole image as the box earns the gold box's share of it",
    "shifted": "partial credit",
}
_ITEMS = "one right item among wrong ones, or several answers at once, earns something"

PLANS: Mapping[str, Plan] = {
    "exact": Plan((DECORATED, WORKED_OUT), _EXACT),
    "normalised": Plan((DECORATED, WORKED_OUT), {**_EXACT, "superscript": _NFKC}),
    "yes-no": Plan((YES, NO)),
    "unanswerable": Plan((UNANSWERABLE, ANSWERABLE)),
    "choice": Plan((LETTER, OPTION_TEXT, OPTION_NUMBER)),
    "number": Plan((LENGTH, SEVEN, THOUSAND, SHARE, MONEY, DURATION, PLANCK)),
    "maths": Plan(
        (HALF, POLYNOMIAL, ROOT, SUM, TWO, PLANCK),
        {"unevaluated": "an unevaluated expression pays (5+7 for 12)"},
    ),
    "vqa": Plan(
        (ANNOTATORS, COUNTED),
        {"said by one": _AGREEMENT, "said by two": _AGREEMENT, "sign": "minus signs are lost"},
    ),
    "vizwiz": Plan((BLURRED, ANNOTATORS), dict.fromkeys(("said by one", "said by two", "said by three"), _AGREEMENT)),
    "anls": Plan(
        (PHRASE,),
        {
            "look-alikes": _EDITS,
            **dict.fromkeys(("another colour", "shared word"), "partial credit is the point of it"),
        },
    ),
    "edit": Plan(
        (PHRASE,),
        {
            "look-alikes": _EDITS,
            **dict.fromkeys(("another colour", "shared word", "first word", "injected verdict"), _ANYTHING),
        },
    ),
    "rouge-l": Plan(
        (PHRASE,),
        dict.fromkeys(("another colour", "shared word", "first word", "injected verdict", "extremely long"), _SHARED),
    ),
    "iou": Plan((BOX,), _BOXES),
    "iou-threshold": Plan((BOX,)),
    "set": Plan(
        (SET,),
        dict.fromkeys(
            ("one of two", "one twice", "one too many", "several answers", "several tagged answers", "extremely long"),
            _ITEMS,
        ),
    ),
    "ordered-list": Plan(
        (LIST,),
        dict.fromkeys(
            ("one missing", "reversed", "every order", "several answers", "several tagged answers", "extremely long"),
            "partial credit",
        ),
    ),
    "format": Plan((WORD,)),
    "length": Plan((WORD,), shapes=("long", "cut off", "empty")),
    "cosine-length": Plan(
        (WORD,),
        {"long and wrong": "a long wrong answer earns 0.83, by design"},
        shapes=("long", "cut off", "empty", "long and wrong"),
    ),
    "repetition": Plan((WORD,), shapes=("repetition", "empty")),
    "truncation": Plan((WORD,), shapes=("cut off", "empty")),
    "accuracy": Plan((DECORATED, WORKED_OUT), _EXACT),
    "accuracy-format": Plan((DECORATED, WORKED_OUT), _EXACT),
    "recap-reasoning": Plan((DECORATED, WORKED_OUT), _EXACT),
    "recap-grounding": Plan((BOX,), _BOXES),
}
UNKNOWN = Plan((WORD, COUNT, NONE))
