"""Every task of the streams that come with cpt: files in their published form, what is asked, what answers get."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stream_files import Content, coco, easyr1, evaluated, llava, sharegpt, ten

from cpt.types import Split

LETTER = "Answer with the option's letter from the given choices directly."
WORD = "Answer the question using a single word or phrase."
NONE = "When the provided information is insufficient, respond with 'Unanswerable'."
OCR = "what brand is it?\nReference OCR token: DAKOTA, DIGITAL\n" + WORD
OBJECT = "What is the object in the image?\n" + WORD
CAPTION = "What is happening in the presented picture?\nPlease describe it in one complete sentence."
PLACE = "What is the background of the image?\n" + WORD
STATES = "Which of these states is farthest north?\nA. West Virginia\nB. Louisiana\n" + LETTER
BOX = "Please provide the bounding box coordinate of the region this sentence describes: the red cup"
DOGS = ("a dog runs on the wet grass", "a brown dog is running over grass", "the dog runs")
CATS = ("two cats sleep on a red sofa", "cats on a sofa")
THINK = "First think about it inside <think> </think>, then give the answer inside <answer> </answer>."
BOXED = r"The final answer MUST BE put in \boxed{}."
TAGS = "First output the thinking process in <think> </think> tags"


@dataclass(frozen=True)
class Case:
    """One task.

    Attributes:
        content: of the folder that `root` names.
        asks: words that its direct prompt has.
        wrong: an answer that is worth nothing, but for what `at_most` says (SARI pays for deleting).
        gold: what is said as the right answer; the first accepted one if left out.
        full: what that is worth; None where other references count too: more than nothing.
        partial: another answer, and what that is worth.
        pictures: of a sample.
        thinks: words that its prompt to think has.
        splits: that it has.
    """

    content: Content
    asks: Sequence[str]
    wrong: str
    gold: str = ""
    full: float | None = 1.0
    partial: tuple[str, float] | None = None
    pictures: int = 1
    thinks: str = THINK
    splits: Sequence[Split] = ("train", "test")
    at_most: float = 0.0


def shared(name: str, *rows: tuple[str, str], picture: str = "p.png") -> Content:
    """ShareGPT files of RFT-vs-SFT, the same rows for both splits."""
    made = sharegpt(*((picture, question, answer) for question, answer in rows))
    return {f"{name}_train.json": made, f"{name}_test.json": made, picture: (8, 8)}


def trained(
    train: str, test: str, pictures: str, question: str, answer: str, gold: Any = None, more: Content | None = None
) -> Content:
    """LLaVA files: a training row, and a test row whose answer may be a list."""
    return {
        train: llava("x", ("a/1.png", question, answer)),
        test: evaluated(("a/1.png", question, answer if gold is None else gold)),
        f"{pictures}/a/1.png": (8, 8),
        **(more or {}),
    }


def coin(task: str, question: str, answer: str, test: str = "test", **more: Any) -> Content:
    folder = f"Instruction_Original/{task}"
    return trained(f"{folder}/train.json", f"{folder}/{test}.json", "cl_dataset", question, answer, **more)


def asd(task: str, question: str, answer: str, **more: Any) -> Content:
    return trained(f"annotations/{task}/train_x20.json", f"annotations/{task}/test.json", ".", question, answer, **more)


def ucit(task: str, question: str, answer: str, train: str = "train", **more: Any) -> Content:
    folder = f"instructions/{task}"
    return trained(f"{folder}/{train}.json", f"{folder}/test_3000.json", "datasets", question, answer, **more)


def domain(task: str, question: str, answer: str) -> Content:
    return trained(f"{task}/train.json", f"{task}/test.json", task, question, answer)


def ability(task: str, question: str, answer: str, gold: Any = None) -> Content:
    """Training and test rows whose pictures lie in two folders."""
    content = trained(f"{task}/train.json", f"{task}_test/test.json", task, question, answer, gold)
    return {**content, f"{task}_test/a/1.png": (8, 8)}


def cvit(task: str, question: str, answer: str, test: str = "test", **more: Any) -> Content:
    folder = f"Instructions_Single/{task}"
    return trained(f"{folder}/train.json", f"{folder}/{test}.json", "dataset", question, answer, **more)


def ctbench(task: str, problem: str, answer: str, picture: bool = True) -> Content:
    image = {"image": "sets/1.png"} if picture else {}
    row = {"problem": problem, "solution": f"<think> Let me look at it. </think> {answer}", **image}
    return {
        f"reasoning_train/{task}.json": [row],
        f"reasoning_test/{task}.json": [{"question_id": f"{task}_0", **row}],
        **({"images/sets/1.png": (8, 8)} if picture else {}),
    }


def trace(task: str, prompt: str, answer: str) -> Content:
    rows = [{"prompt": prompt, "answer": answer}]
    return {f"{task}/{split}.json": rows for split in ("train", "eval", "test")}


def recap(name: str, problem: str, answer: str) -> Content:
    """Enough rows for a test split that is cut off by hash."""
    return {f"{name}/train.parquet": easyr1(*((f"<image>{problem} ({number})", answer) for number in range(60)))}


def grounded(train: str, test: str, pictures: str, gold: str = "[0.0, 0.25, 0.5, 0.75]") -> Content:
    """A picture of 8 × 4, which is padded to 8 × 8."""
    row = {"origin_answer_bbox": "[0.0, 0.0, 0.5, 1.0]", "size": [8, 4]}
    return {
        train: llava("g", ("COCO2014/train2014/1.png", BOX, gold)),
        test: evaluated(("COCO2014/train2014/1.png", BOX, gold), answer="answer_bbox", **row),
        f"{pictures}/COCO2014/train2014/1.png": (8, 4),
    }


def captioned(train: str, test: str, pictures: str, references: str = "") -> Content:
    """Two pictures with all their captions, in the test rows or in a file of their own."""
    golds = ("", "") if references else (list(DOGS), list(CATS))
    return {
        train: llava("c", ("a/1.png", CAPTION, DOGS[0]), ("a/1.png", CAPTION, CATS[0])),
        test: evaluated(*(("a/1.png", CAPTION, gold) for gold in golds)),
        f"{pictures}/a/1.png": (8, 8),
        **({references: coco([DOGS, CATS])} if references else {}),
    }


def captions(content: Content) -> Case:
    return Case(content, [CAPTION], "green cars", full=None)


def annotated(file: str, answers: Sequence[str]) -> Content:
    """TextVQA's own file."""
    return {file: {"dataset_type": "val", "data": [{"question_id": 0, "image_id": "1", "answers": list(answers)}]}}


DAKOTA = ten(("dakota", 7), ("dakota digital", 3))
VAL = "TextVQA/TextVQA_0.5.1_val.json"
TEN = {"wrong": "kodak", "gold": "dakota", "partial": ("Dakota Digital", 0.9)}

CASES: dict[str, dict[str, Case]] = {
    "streams/rft-vs-sft": {
        "rft-scienceqa": Case(shared("ScienceQA", (f"<image>\n{STATES}", "A")), [STATES], "B", thinks=BOXED),
        "rft-textvqa": Case(shared("TextVQA", (f"<image>\n{OCR}", "dakota")), [OCR], "kodak", thinks=BOXED),
        "rft-vizwiz": Case(
            shared("VizWiz", (f"<image>\nWhat is this?\n{NONE}\n{WORD}", "unanswerable")),
            [NONE, WORD],
            "a dog",
            gold="Unanswerable",
            thinks=BOXED,
        ),
        "rft-gqa": Case(
            shared("GQA", (f"<image>\nIs it red?\n{WORD}", "yes")), ["Is it red?", WORD], "no", thinks=BOXED
        ),
        "rft-geometry3k": Case(
            shared("geo", (f"<image>Find $x$.\n{WORD}", r"2 \sqrt { 221 }")),
            ["Find $x$.", WORD],
            "29",
            gold=r"2\sqrt{221}",
            thinks=BOXED,
        ),
        "rft-pathvqa": Case(
            shared("path-vqa", (f"<image>where is it?\n{WORD}", "a thymus")), [WORD], "kidney", thinks=BOXED
        ),
        "rft-super-clevr": Case(
            shared(
                "clevr",
                (
                    "<image>\nHint: Please answer the question and provide the final answer at the end.\n"
                    f"Question: What is the color of the large bicycle?\n{WORD}",
                    "The bicycle is blue and brown",
                ),
            ),
            ["Hint: Please answer", "Question: What is the color", WORD],
            "red",
            thinks=BOXED,
        ),
    },
    "streams/mllm-ctbench": {
        "ctbench-art": Case(
            ctbench("art", "Who painted it? Answer in a sentence.", "It was painted by Vermeer."),
            ["Who painted it?"],
            "no idea",
            thinks=TAGS,
        ),
        "ctbench-ocr": Case(ctbench("OCR", "What is written?", "open"), ["What is written?"], "shut", thinks=TAGS),
        "ctbench-fomc": Case(
            ctbench("fomc", "The stance of: rates may rise?", "hawkish", picture=False),
            ["rates may rise"],
            "dovish",
            partial=("hawkish rather than neutral", 1.0),
            pictures=0,
            thinks=TAGS,
        ),
        "ctbench-science": Case(ctbench("science", "Which one?", "oxygen"), ["Which one?"], "helium", thinks=TAGS),
        "ctbench-numglue": Case(
            ctbench("numglue", "What is 5 + 7?", "12", picture=False),
            ["What is 5 + 7?"],
            "13",
            partial=("5 + 7 gives 12.0", 1.0),
            pictures=0,
            thinks=TAGS,
        ),
        "ctbench-math": Case(ctbench("math", "Find x.", "2.5"), ["Find x."], "2", thinks=TAGS),
        "ctbench-medical": Case(
            ctbench("medical", "Which organ?", "the liver"), ["Which organ?"], "a bone", thinks=TAGS
        ),
    },
    "streams/coin": {
        "coin-scienceqa": Case(coin("ScienceQA", STATES, "A"), [STATES], "B", partial=("A. West Virginia", 1.0)),
        "coin-textvqa": Case(
            coin("TextVQA", OCR, "dakota", "val", more=annotated(f"cl_dataset/{VAL}", DAKOTA)), [OCR], **TEN
        ),
        "coin-imagenet": Case(
            coin("ImageNet", OBJECT, "tench, Tinca tinca"), [OBJECT], "shark", partial=("tench", 1.0)
        ),
        "coin-gqa": Case(coin("GQA", f"Is it red?\n{WORD}", "yes"), ["Is it red?", WORD], "no", partial=("Yes", 1.0)),
        "coin-vizwiz": Case(
            coin("VizWiz", f"What is it?\n{NONE}\n{WORD}", "unanswerable", "val"),
            [NONE, WORD],
            "dog",
            gold="Unanswerable",
        ),
        "coin-grounding": Case(
            grounded(
                "Instruction_Original/Grounding/train.json", "Instruction_Original/Grounding/test.json", "cl_dataset"
            ),
            [BOX],
            "[0.5, 0.25, 1.0, 0.75]",
            partial=("[0.0, 0.25, 0.4, 0.75]", 1.0),
        ),
        "coin-vqav2": Case(coin("VQAv2", f"How many?\n{WORD}", "two", "val"), [WORD], "2", partial=("Two", 1.0)),
        "coin-ocrvqa": Case(coin("OCRVQA", f"Who wrote it?\n{WORD}", "A. Author"), [WORD], "Author"),
    },
    "streams/coin-asd": {
        "coin-asd-scienceqa": Case(asd("ScienceQA", STATES, "A"), [STATES], "B"),
        "coin-asd-textvqa": Case(asd("TextVQA", OCR, "dakota", more=annotated(VAL, DAKOTA)), [OCR], **TEN),
        "coin-asd-imagenet": Case(
            asd("ImageNet", OBJECT, "tench, Tinca tinca"), [OBJECT], "shark", partial=("tench", 1.0)
        ),
        "coin-asd-gqa": Case(asd("GQA", f"Is it red?\n{WORD}", "yes"), [WORD], "no"),
        "coin-asd-vizwiz": Case(
            asd("VizWiz", f"What is it?\n{NONE}\n{WORD}", "unanswerable"), [NONE, WORD], "dog", gold="Unanswerable"
        ),
        "coin-asd-grounding": Case(
            grounded("annotations/Grounding/train_x20.json", "annotations/Grounding/test.json", "."),
            [BOX],
            "[0.5, 0.25, 1.0, 0.75]",
            partial=("[0.0, 0.25, 0.4, 0.75]", 1.0),
        ),
        "coin-asd-vqav2": Case(asd("VQAv2", f"How many?\n{WORD}", "two"), [WORD], "2"),
        "coin-asd-ocrvqa": Case(asd("OCRVQA", f"Who wrote it?\n{WORD}", "A. Author"), [WORD], "Author"),
    },
    "streams/ucit": {
        "ucit-imagenet-r": Case(ucit("ImageNet-R", OBJECT, "goldfish"), [OBJECT], "fish", partial=("Goldfish", 1.0)),
        "ucit-arxivqa": Case(ucit("ArxivQA", f"Which plot?\nA. one\nB. two\n{LETTER}", "B", "train_4w"), [LETTER], "A"),
        "ucit-vizwiz-caption": captions(
            captioned(
                "instructions/VizWiz/train.json",
                "instructions/VizWiz/test_3000.json",
                "datasets",
                "instructions/VizWiz/val_coco_type_3000.json",
            )
        ),
        "ucit-iconqa": Case(ucit("IconQA", f"How many?\n{WORD}", "3"), [WORD], "4"),
        "ucit-clevr-math": Case(ucit("CLEVR", f"How many are left?\n{WORD}", "3", "train_4w"), [WORD], "4"),
        "ucit-flickr30k": captions(
            captioned(
                "instructions/Flickr30k/train_brief_4w.json",
                "instructions/Flickr30k/test_3000.json",
                "datasets",
                "instructions/Flickr30k/val_coco_type_3000.json",
            )
        ),
    },
    "streams/mllm-cl-domain": {
        "mllm-cl-rs": Case(
            domain("RS", "Is there water?", "yes"), ["Is there water?"], "no", partial=("so, yes.", 1.0)
        ),
        "mllm-cl-med": Case(
            domain("Med", "What is it?", "liver"),
            ["What is it?", "Answer the question with a single word (or phrase)."],
            "kidney",
            partial=("the liver lobe", 1.0),
        ),
        "mllm-cl-ad": Case(
            domain("AD", "What next?", "keep going"), ["What next?"], "stop", partial=("I keep going", 1.0)
        ),
        "mllm-cl-sci": Case(
            domain("Sci", "Which states have the highest value?", "Iowa,Ohio"),
            ["Which states"],
            "Texas",
            partial=("Ohio, Texas", 0.5),
        ),
        "mllm-cl-fin": Case(
            domain("Fin", "Up?\nA. yes\nB. no", "A"),
            ["Up?", "Answer with the given letter, or with yes or no, directly."],
            "B",
            partial=("A.", 1.0),
        ),
    },
    "streams/mllm-cl-ability": {
        "mllm-cl-ocr": Case(
            ability("OCR", "what is written?", "OPEN", ["OPEN", "open now"]), ["what is written?"], "shut"
        ),
        "mllm-cl-math": Case(ability("Math", "Find x.", "0.5"), ["Find x."], "2", partial=("1/2", 1.0)),
        "mllm-cl-vp": Case(
            ability("VP", "Which?\n(A) left\n(B) right", "(B)"), ["(B) right"], "(A)", partial=("( B ).", 1.0)
        ),
    },
    "streams/smolora-cvit": {
        "cvit-scienceqa": Case(cvit("ScienceQA", STATES, "A"), [STATES], "B"),
        "cvit-textvqa": Case(
            cvit("TextVQA", OCR, "dakota", "val", more=annotated(f"dataset/{VAL}", DAKOTA)), [OCR], **TEN
        ),
        "cvit-flickr30k": captions(
            captioned("Instructions_Single/Flickr30k/train.json", "Instructions_Single/Flickr30k/val.json", "dataset")
        ),
        "cvit-imagenet": Case(
            cvit("ImageNet", OBJECT, "tench, Tinca tinca"), [OBJECT], "shark", partial=("Tench", 1.0)
        ),
        "cvit-gqa": Case(cvit("GQA", f"Is it red?\n{WORD}", "yes"), [WORD], "no"),
        "cvit-vqav2": Case(cvit("VQAv2", f"How many?\n{WORD}", "two", "val"), [WORD], "2"),
    },
    "streams/trace": {
        "trace-c-stance": Case(
            trace("C-STANCE", "判断以下文本对指定对象的态度…输出A，B或者C。\n你好", "A"), ["输出A"], "B", pictures=0
        ),
        "trace-fomc": Case(
            trace("FOMC", "Choose one from A, B and C.\nRates rise.", "B"), ["Rates rise."], "A", pictures=0
        ),
        "trace-meetingbank": Case(
            trace(
                "MeetingBank", "Write a summary of the following meeting transcripts.\nHello all.", "we met and left"
            ),
            ["Write a summary"],
            "nothing here",
            partial=("we met", 2 / 3),
            pictures=0,
        ),
        "trace-py150": Case(
            trace("Py150", "Continue writing the code.\nimport os", "x = 1"),
            ["Continue"],
            "#",
            partial=("x = 2", 0.8),
            pictures=0,
        ),
        "trace-scienceqa": Case(
            trace(
                "ScienceQA",
                "Choose an answer for the following question and give your reasons.\n\nWhy?",
                "B\nBecause of it.",
            ),
            ["give your reasons"],
            "C\nBecause of it.",
            partial=("B\nFor other reasons.", 1.0),
            pictures=0,
        ),
        "trace-numglue-cm": Case(
            trace("NumGLUE-cm", "Solve the following math problem.\n5 + 7?", "12"), ["5 + 7?"], "13", pictures=0
        ),
        "trace-numglue-ds": Case(
            trace("NumGLUE-ds", "Solve the following math problem.\n5 + 7?", "12"), ["5 + 7?"], "13", pictures=0
        ),
        "trace-20minuten": Case(
            trace(
                "20Minuten",
                "Provide a simplified version of the following paragraph in German.\n\nDie Katze sass auf der Matte.",
                "Die Katze sass da.",
            ),
            ["simplified version"],
            "Ein Hund",
            full=None,
            at_most=0.45,
            pictures=0,
        ),
    },
    "streams/recap": {
        "recap-thinklite-vl": Case(recap("thinklite-vl", "Find x.", "0.5"), ["Find x."], "2", partial=("1/2", 1.0)),
        "recap-geoqa-v": Case(recap("geoqa-v", "Find x.", r"\sqrt{2}"), ["Find x."], "2"),
        "recap-sat": Case(recap("sat", "Which one?", "left"), ["Which one?"], "right"),
        "recap-scienceqa": Case(recap("scienceqa", STATES, "A"), [STATES], "B"),
        "recap-refcoco": Case(
            recap("refcoco", BOX, "[0, 0, 4, 4]"), [BOX], "[5, 5, 8, 8]", partial=("[0, 0, 4, 2]", 0.5)
        ),
        "recap-lisa": Case(recap("lisa", BOX, "[0, 0, 4, 4]"), [BOX], "[5, 5, 8, 8]", partial=("[0, 0, 4, 2]", 0.5)),
    },
}

UNSEEN = "streams/smolora-cvit-unseen"
NEVER_TRAINED: dict[str, Case] = {
    "cvit-vizwiz": Case(
        cvit("VizWiz", f"What is it?\n{NONE}\n{WORD}", "unanswerable", "val"), [NONE], "dog", gold="Unanswerable"
    ),
    "cvit-textcaps": captions(
        captioned("Instructions_Single/TextCaps/train.json", "Instructions_Single/TextCaps/val.json", "dataset")
    ),
    "cvit-ocrvqa": Case(cvit("OCRVQA", f"Who wrote it?\n{WORD}", "A. Author"), [WORD], "Author"),
    "cvit-places365": Case(
        cvit("Places365", PLACE, "forest path", "val", gold=["forest path", "forest"]),
        [PLACE],
        "beach",
        partial=("a forest", 1.0),
    ),
}
# In other words: how often, and what of the stream's own words is gone.
WORDINGS = {
    "scienceqa": (range(2, 6), LETTER), "textvqa": (range(1, 6), WORD), "flickr30k": (range(2, 6), CAPTION),
    "imagenet": (range(1, 6), WORD), "gqa": (range(1, 6), WORD), "vqav2": (range(1, 6), WORD),
    "places365": (range(2, 6), PLACE),
}  # fmt: skip


def _reworded() -> Iterator[tuple[str, Case]]:
    known = CASES["streams/smolora-cvit"] | NEVER_TRAINED
    for task, (numbers, _) in WORDINGS.items():
        base = known[f"cvit-{task}"]
        asked = base.asks[0].removesuffix(LETTER).removesuffix(WORD).strip() if task in ("scienceqa", "textvqa") else ""
        for number in numbers:
            yield f"cvit-{task}-words-{number}", replace(base, asks=[asked] if asked else [])


CASES[UNSEEN] = {
    name: replace(case, splits=("test",), content={k: v for k, v in case.content.items() if "/train" not in k})
    for name, case in [*NEVER_TRAINED.items(), *_reworded()]
}
