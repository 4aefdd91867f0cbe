"""The built-in model: a Qwen2.5-VL of 1.5 million parameters, with tokenizer, processor and chat template.

It is Qwen2.5-VL by transformers' own classes and configuration, only small: AutoProcessor, vLLM, TRL and PEFT load its
folder like any other. A 48x48 picture is nine visual tokens (patch 8, merge 2); the vocabulary is one token a word.
`cpt.tasks.world.pretrain` teaches it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from cpt.tasks.world.format import FORMAT
from cpt.tasks.world.scene import SIZE
from cpt.tasks.world.tasks import TASKS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

PATCH, MERGE = 8, 2
HIDDEN, LAYERS, HEADS = 128, 4, 4
VISION_HIDDEN, VISION_LAYERS, VISION_HEADS = 96, 3, 4
MAX_POSITIONS = 512
GAIN = 0.8
# Rotary frequencies fall from time over height to width. With the family's base of 10,000 the next column is less than
# a fifth of a degree away, and the model learns what is in a picture but not where.
ROPE_BASE = 4.0

PAD, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
VISION_START, VISION_END, IMAGE, VIDEO = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"
SPECIAL = (PAD, IM_START, IM_END, VISION_START, VISION_END, IMAGE, VIDEO)
UNKNOWN = "<unk>"
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_VOCABULARY_SAMPLES = 400

# The layout of Qwen2.5-VL's template for user turns of images and text, and assistant turns of text.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def vocabulary() -> list[str]:
    """Every word of the built-in world, sorted, after the special tokens: what the tasks say and the format's tags."""
    text = [
        *FORMAT.instruction.values(),
        *TAGS,
        FORMAT.no_reasoning,
        GUESS,
        "user assistant system The the answer is : yes no",
    ]
    text += [str(n) for n in range(19)]
    for task in TASKS:
        for sample in task().samples("base", _VOCABULARY_SAMPLES):
            text += [sample.question, sample.reasoning, *sample.gold, *sample.meta["candidates"]]
    return [*SPECIAL, UNKNOWN, *sorted({word for line in text for word in line.split()})]


GUESS = "I guess ."


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer: white space and punctuation split, case kept, decoding joins with single spaces."""
    from transformers import PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate(vocabulary())}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=UNKNOWN))
    punctuation = pre_tokenizers.Split(Regex(r"\.\.\.|[?.,;:()]"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), punctuation])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=UNKNOWN,
        eos_token=IM_END,
        pad_token=PAD,
        additional_special_tokens=list(SPECIAL[1:]),
        chat_template=CHAT_TEMPLATE,
        model_max_length=MAX_POSITIONS,
    )


def make_processor() -> Qwen2_5_VLProcessor:
    """Qwen2.5-VL's processor over the word-level tokenizer: pictures are resized to 48x48, nine tokens each."""
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessorPil, Qwen2VLVideoProcessor

    geometry: dict[str, Any] = {"patch_size": PATCH, "merge_size": MERGE, "temporal_patch_size": 1}
    pixels = {"min_pixels": SIZE * SIZE, "max_pixels": SIZE * SIZE}
    # Background near zero, shapes far from it: with the usual 0.5 the model takes five times as long to see anything.
    half = {"image_mean": [0.85] * 3, "image_std": [0.25] * 3}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessorPil(**geometry, **pixels, **half),
        tokenizer=make_tokenizer(),
        video_processor=Qwen2VLVideoProcessor(**geometry, **half),
        chat_template=CHAT_TEMPLATE,
    )


def make_model(tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> Qwen2_5_VLForConditionalGeneration:
    """Random weights of the built-in architecture, float32."""
    import torch
    from transformers import GenerationConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}
    config = Qwen2_5_VLConfig(
        text_config={
            "hidden_size": HIDDEN, "intermediate_size": 3 * HIDDEN, "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS, "num_key_value_heads": HEADS, "vocab_size": len(tokenizer),
            "max_position_embeddings": MAX_POSITIONS, "tie_word_embeddings": False, "bos_token_id": None,
            "rope_scaling": {"type": "mrope", "mrope_section": [2, 7, 7], "rope_theta": ROPE_BASE},
            "eos_token_id": ids[IM_END], "pad_token_id": ids[PAD],
        },
        vision_config={
            "depth": VISION_LAYERS, "hidden_size": VISION_HIDDEN, "intermediate_size": 3 * VISION_HIDDEN,
            "num_heads": VISION_HEADS, "out_hidden_size": HIDDEN, "patch_size": PATCH, "spatial_merge_size": MERGE,
            "temporal_patch_size": 1, "window_size": SIZE, "fullatt_block_indexes": list(range(VISION_LAYERS)),
            "in_channels": 3,
        },
        image_token_id=ids[IMAGE], video_token_id=ids[VIDEO], vision_start_token_id=ids[VISION_START],
        vision_end_token_id=ids[VISION_END], tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration._from_config(config, attn_implementation="sdpa")
    _initialise(model)
    model.generation_config = GenerationConfig(eos_token_id=ids[IM_END], pad_token_id=ids[PAD], do_sample=False)
    return model


def is_tiny(config: Any) -> bool:
    """Whether this is a config of `make_model`, whatever the vocabulary, the weights and their precision."""
    text, vision = getattr(config, "text_config", None), getattr(config, "vision_config", None)
    if config.model_type != "qwen2_5_vl" or text is None or vision is None:
        return False
    language = (text.hidden_size, text.num_hidden_layers, text.num_attention_heads, text.rope_parameters["rope_theta"])
    sight = (vision.hidden_size, vision.depth, vision.num_heads, vision.patch_size, vision.spatial_merge_size)
    ours = (HIDDEN, LAYERS, HEADS, ROPE_BASE), (VISION_HIDDEN, VISION_LAYERS, VISION_HEADS, PATCH, MERGE)
    return (language, sight) == ours


def _initialise(model: Qwen2_5_VLForConditionalGeneration) -> None:
    """Normal weights with a standard deviation of `GAIN` by the root of their inputs' number.

    The family's constant 0.02 is meant for widths in the thousands. At 128 it makes attention so even at the start that
    matching a word with what is seen takes several times as many steps to be learned.
    """
    for name, weight in model.named_parameters():
        if weight.dim() >= 2:
            inputs = 1 if "embed_tokens" in name else weight[0].numel()
            weight.data.normal_(0.0, GAIN * inputs**-0.5)


def save(model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor, folder: Path) -> None:
    """A plain Hugging Face folder: weights as safetensors, configuration, tokenizer, processor, template."""
    model.save_pretrained(folder, safe_serialization=True)
    processor.save_pretrained(folder)
