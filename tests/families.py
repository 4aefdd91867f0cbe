"""Tiny models of other families than the built-in one's, with random weights, made offline.

They are what transformers' own classes make of small numbers: AutoProcessor, TRL and vLLM load their folders like those
of the Hub. The words are the built-in world's, so that its tasks can be asked of all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

PATCH, SIDE = 14, 28  # of a tile: 2 x 2 patches
_TEXT = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "max_position_embeddings": 1024, "head_dim": 32,
}  # fmt: skip
_VISION = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "patch_size": PATCH, "image_size": SIDE,
}  # fmt: skip
_SQUARE = {"height": SIDE, "width": SIDE}
_TURNS = (
    "{{% for message in messages %}}<|im_start|>{{{{ message['role'] }}}}\n"
    "{{% if message['content'] is string %}}{{{{ message['content'] }}}}{{% else %}}"
    "{{% for part in message['content'] %}}"
    "{{% if part['type'] == 'image' %}}{image}{{% elif part['type'] == 'text' %}}{{{{ part['text'] }}}}{{% endif %}}"
    "{{% endfor %}}{{% endif %}}<|im_end|>\n{{% endfor %}}"
    "{{% if add_generation_prompt %}}<|im_start|>assistant\n{{% endif %}}"
)


def make_tokenizer(image: str, *special: str, **named: str) -> Any:
    """A word-level tokenizer that keeps line breaks, of which real vocabularies have one token for up to four.

    Args:
        image: what the chat template writes where a picture goes.
        special: further special tokens.
        named: those that a processor asks for by an attribute of the tokenizer.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from cpt.tasks.world.tiny import vocabulary

    tokens = list(dict.fromkeys(["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<bos>", *special, *named.values()]))
    words = [*tokens, *("\n" * n for n in range(1, 5)), *vocabulary()]
    ids = {word: i for i, word in enumerate(dict.fromkeys(words))}
    ids |= {f"<unused{i}>": i for i in range(len(ids), -(-len(ids) // 64) * 64)}  # vLLM pads to 64
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\n{1,4}"), "isolated"),
            pre_tokenizers.Split(Regex(" +"), "removed"),
            pre_tokenizers.Split(Regex(r"\.\.\.|[?.,;:()]"), "isolated"),
        ]
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in tokens])
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=named,
        chat_template=_TURNS.format(image=image),
        model_max_length=1024,
        padding_side="left",
    )
    for name, token in named.items():
        assert getattr(made, name) == token
    return made


def text_config(kind: str, tokenizer: Any, **more: Any) -> dict[str, Any]:
    """A small language model of a kind."""
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    return {"model_type": kind, "vocab_size": len(tokenizer), "tie_word_embeddings": False, **_TEXT, **ids, **more}


def llava() -> tuple[Any, Any]:
    """LLaVA-1.5: CLIP, one size for every picture, a token a patch."""
    from transformers import CLIPImageProcessorPil, LlavaConfig, LlavaProcessor

    tokenizer = make_tokenizer("<image>", image_token="<image>")
    config = LlavaConfig(
        text_config=text_config("llama", tokenizer),
        vision_config={"model_type": "clip_vision_model", **_VISION, "projection_dim": 32},
        image_token_index=tokenizer.image_token_id,
        image_seq_length=4,
    )
    pictures = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=_SQUARE)
    return config, LlavaProcessor(
        pictures, tokenizer, patch_size=PATCH, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=tokenizer.chat_template,
    )  # fmt: skip


def llava_onevision() -> tuple[Any, Any]:
    """LLaVA-OneVision: SigLIP, tiles where a prompt has one picture, line breaks between rows of patches."""
    from transformers import LlavaOnevisionConfig, LlavaOnevisionImageProcessorPil, LlavaOnevisionProcessor
    from transformers import LlavaOnevisionVideoProcessor as Video

    tokenizer = make_tokenizer("<image>", image_token="<image>", video_token="<video>")
    sizes = [[SIDE, SIDE], [SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
    config = LlavaOnevisionConfig(
        text_config=text_config("qwen2", tokenizer),
        vision_config={"model_type": "siglip_vision_model", **_VISION, "vision_use_head": False},
        image_token_index=tokenizer.image_token_id,
        video_token_index=tokenizer.video_token_id,
        image_grid_pinpoints=sizes,
    )
    pictures = LlavaOnevisionImageProcessorPil(size=_SQUARE, image_grid_pinpoints=sizes)
    return config, LlavaOnevisionProcessor(
        pictures, tokenizer, Video(size=_SQUARE), num_image_tokens=4, vision_feature_select_strategy="full",
        chat_template=tokenizer.chat_template,
    )  # fmt: skip


def internvl() -> tuple[Any, Any]:
    """InternVL: tiles by a picture's shape, a run of tokens between two marks."""
    from transformers import GotOcr2ImageProcessorPil, InternVLConfig, InternVLProcessor, InternVLVideoProcessor

    tokenizer = make_tokenizer(
        "<IMG_CONTEXT>\n", start_image_token="<img>", end_image_token="</img>", context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )  # fmt: skip
    vision = _VISION | {"image_size": [SIDE, SIDE], "patch_size": [PATCH, PATCH]}
    config = InternVLConfig(
        text_config=text_config("qwen2", tokenizer),
        vision_config={"model_type": "internvl_vision", **vision},
        image_token_id=tokenizer.context_image_token_id,
        image_seq_length=1,
        tie_word_embeddings=False,
    )
    pictures = GotOcr2ImageProcessorPil(size=_SQUARE, crop_to_patches=True, min_patches=1, max_patches=4)
    return config, InternVLProcessor(
        pictures, tokenizer, InternVLVideoProcessor(size=_SQUARE), image_seq_length=1,
        chat_template=tokenizer.chat_template,
    )  # fmt: skip


_TILES = [f"<row_{i}_col_{j}>" for i in range(1, 7) for j in range(1, 7)]


def idefics3() -> tuple[Any, Any]:
    """Idefics3: tiles in rows and columns, each a run of tokens after its place, and the whole picture at the end."""
    from transformers import Idefics3Config, Idefics3ImageProcessorPil, Idefics3Processor

    tokenizer = make_tokenizer(
        "<image>", "<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>", *_TILES
    )
    config = Idefics3Config(
        text_config=text_config("llama", tokenizer),
        vision_config=_VISION,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
    )
    pictures = Idefics3ImageProcessorPil(size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE})
    return config, Idefics3Processor(pictures, tokenizer, image_seq_len=1, chat_template=tokenizer.chat_template)


def smolvlm() -> tuple[Any, Any]:
    """SmolVLM: as Idefics3."""
    from transformers import SmolVLMConfig, SmolVLMImageProcessorPil, SmolVLMProcessor, SmolVLMVideoProcessor

    tokenizer = make_tokenizer(
        "<image>", *_TILES, image_token="<image>", fake_image_token="<fake_token_around_image>",
        end_of_utterance_token="<end_of_utterance>", global_image_token="<global-img>",
    )  # fmt: skip
    config = SmolVLMConfig(
        text_config=text_config("llama", tokenizer),
        vision_config=_VISION,
        image_token_id=tokenizer.image_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    size: dict[str, Any] = {"size": {"longest_edge": 2 * SIDE}, "max_image_size": {"longest_edge": SIDE}}
    video = SmolVLMVideoProcessor(**size, fps=1, num_frames=2, do_sample_frames=False)
    return config, SmolVLMProcessor(
        SmolVLMImageProcessorPil(**size), tokenizer, video, image_seq_len=1, chat_template=tokenizer.chat_template
    )


def gemma3() -> tuple[Any, Any]:
    """Gemma 3: tokens of one picture see each other; sliding windows; line breaks around a picture."""
    from transformers import Gemma3Config, Gemma3ImageProcessorPil, Gemma3Processor

    tokenizer = make_tokenizer(
        "<start_of_image>", boi_token="<start_of_image>", eoi_token="<end_of_image>", image_token="<image_soft_token>"
    )
    text = text_config("gemma3_text", tokenizer, query_pre_attn_scalar=32, sliding_window=16)
    text["layer_types"] = ["sliding_attention", "full_attention"]
    config = Gemma3Config(
        text_config=text | {"tie_word_embeddings": True},
        vision_config={"model_type": "siglip_vision_model", **_VISION, "vision_use_head": False},
        mm_tokens_per_image=4,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
        image_token_index=tokenizer.image_token_id,
    )
    pictures = Gemma3ImageProcessorPil(size=_SQUARE)
    return config, Gemma3Processor(pictures, tokenizer, chat_template=tokenizer.chat_template, image_seq_length=4)


def paligemma() -> tuple[Any, Any]:
    """PaliGemma: pictures first, a prompt that sees itself whole, no prompt without a picture."""
    from transformers import PaliGemmaConfig, PaliGemmaProcessor, SiglipImageProcessorPil

    tokenizer = make_tokenizer("<image>", image_token="<image>")
    # The processor ends every prompt with a line break of its own.
    before, after = tokenizer.chat_template.rsplit("assistant\n", 1)
    tokenizer.chat_template = f"{before}assistant{after}"
    config = PaliGemmaConfig(
        text_config=text_config("gemma", tokenizer) | {"tie_word_embeddings": True},
        vision_config={"model_type": "siglip_vision_model", **_VISION, "vision_use_head": False, "projection_dim": 64},
        image_token_index=tokenizer.image_token_id,
        projection_dim=64,
        hidden_size=64,
    )
    pictures = SiglipImageProcessorPil(size=_SQUARE)
    pictures.image_seq_length = 4
    return config, PaliGemmaProcessor(pictures, tokenizer, chat_template=tokenizer.chat_template)


def _qwen(kind: str) -> tuple[Any, Any]:
    import transformers as hf

    start, end = "<|vision_start|>", "<|vision_end|>"
    tokenizer = make_tokenizer(
        f"{start}<|image_pad|>{end}", start, end, image_token="<|image_pad|>", video_token="<|video_pad|>"
    )
    ids = {
        "image_token_id": tokenizer.image_token_id,
        "video_token_id": tokenizer.video_token_id,
        "vision_start_token_id": tokenizer.convert_tokens_to_ids(start),
        "vision_end_token_id": tokenizer.convert_tokens_to_ids(end),
    }
    section = {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 10_000.0}
    text = text_config({"Qwen3VL": "qwen3_vl_text", "Qwen2VL": "qwen2_vl_text"}.get(kind, "qwen2_5_vl_text"), tokenizer)
    text |= {"rope_parameters": section | ({"mrope_interleaved": True} if kind == "Qwen3VL" else {})}
    vision: dict[str, Any] = {"depth": 2, "num_heads": 2, "patch_size": PATCH, "spatial_merge_size": 2}
    vision |= {"temporal_patch_size": 2, "in_channels": 3}
    if kind == "Qwen2VL":
        vision |= {"embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2}
    else:
        vision |= {"hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 64}
    if kind == "Qwen2_5_VL":
        vision |= {"window_size": 2 * SIDE, "fullatt_block_indexes": [1]}
    if kind == "Qwen3VL":
        vision |= {"num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    config = getattr(hf, f"{kind}Config")(text_config=text, vision_config=vision, tie_word_embeddings=False, **ids)
    size = {"shortest_edge": SIDE * SIDE, "longest_edge": 4 * SIDE * SIDE}
    geometry: dict[str, Any] = {"patch_size": PATCH, "merge_size": 2, "temporal_patch_size": 2}
    pictures = hf.Qwen2VLImageProcessorPil(size=size, **geometry)
    video = hf.Qwen3VLVideoProcessor if kind == "Qwen3VL" else hf.Qwen2VLVideoProcessor
    make = getattr(hf, f"{kind}Processor")
    return config, make(pictures, tokenizer, video(**geometry), chat_template=tokenizer.chat_template)


FAMILIES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "llava": llava,
    "llava_onevision": llava_onevision,
    "internvl": internvl,
    "idefics3": idefics3,
    "smolvlm": smolvlm,
    "gemma3": gemma3,
    "paligemma": paligemma,
    "qwen2_vl": lambda: _qwen("Qwen2VL"),
    "qwen2_5_vl": lambda: _qwen("Qwen2_5_VL"),
    "qwen3_vl": lambda: _qwen("Qwen3VL"),
}
"""Config and processor of each family."""


def save_family(name: str, folder: Path, seed: int = 1) -> Path:
    """A plain Hugging Face folder of a family with random weights, as `save_pretrained` writes it."""
    import torch
    from transformers import AutoModelForImageTextToText, GenerationConfig

    config, processor = FAMILIES[name]()
    torch.manual_seed(seed)
    model: Any = AutoModelForImageTextToText.from_config(config, attn_implementation="sdpa")
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    for key, weight in model.named_parameters():
        if weight.dim() >= 2:  # with the families' 0.02 such a small model says the same whatever it sees
            inside = (1.6 if tied else 0.8) * weight[
                0
            ].numel() ** -0.5  # an embedding that is the head speaks for itself
            weight.data.normal_(0.0, (0.05 if tied else 0.8) if "embed_tokens" in key else inside)
    tokenizer = processor.tokenizer
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=False
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
