"""Tiny LLaVA, BLIP and BLIP-2 from configs, with tokenizers and image processors of their own."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from ademvl.config.methods_by_name import settings_class_of
from ademvl.config.run import PRETRAINED, BackboneSettings, RunSettings
from ademvl.config.systems import without_unread
from tests.tiny import make_run

SYSTEMS = ("llava", "blip", "blip2")
SIZE = 8
_VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": SIZE,
    "patch_size": 4,
    "initializer_range": 0.3,
}
_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "initializer_range": 0.3,  # so that a random model answers to its input
    "max_position_embeddings": 256,
}
_SENTENCES = [
    f"USER: Context: N/A Question: What color is the square? Options: (A) {a} (B) {b} Response: "
    f"Answer: The answer is {letter}. Describe this image in one short sentence. Is it yes or no "
    f"A B C D E F ASSISTANT: a picture of a {a} square, a photo of a {b} square."
    for a in ("red", "green", "blue", "gray")
    for b in ("red", "green", "blue", "gray")
    for letter in "AB"
]


def make_system(folder: Path, name: str) -> Path:
    """Write a random tiny system, as its authors' repositories are laid out; return the folder."""
    tokenizer, size = _tokenizer(name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = {"llava": _llava, "blip": _blip, "blip2": _blip2}[name](tokenizer, size)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _image_processor(name).save_pretrained(folder)
    return folder


def make_system_run(folder: Path, name: str, **changes: Any) -> RunSettings:
    """Write a tiny system and the data of a ScienceQA run; return the run's settings."""
    checkpoint = folder / name
    if not checkpoint.is_dir():
        make_system(checkpoint, name)
    method: Any = settings_class_of(name)
    run = make_run(
        folder,
        name=name,
        adapter=PRETRAINED,
        method=method(),
        backbones=BackboneSettings(llm=str(checkpoint)),
        **changes,
    )
    return without_unread(run)


def _tokenizer(name: str) -> tuple[Any, int]:
    """Train a tokenizer on a few sentences; return it, and the number of its ids."""
    from transformers import BertTokenizer, PreTrainedTokenizerFast

    if name == "blip":
        words = sorted({word.lower() for text in _SENTENCES for word in _words(text)})
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        vocabulary = {token: number for number, token in enumerate([*special, *words])}
        return BertTokenizer(vocab=vocabulary), len(vocabulary)
    special = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    made.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    made.train_from_iterator([*_SENTENCES, "\n"], trainer)
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", special.index("<s>"))]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=["<image>"],
    )
    return tokenizer, len(tokenizer)


def _words(text: str) -> list[str]:
    from tokenizers.pre_tokenizers import BertPreTokenizer

    return [word for word, _ in BertPreTokenizer().pre_tokenize_str(text)]


def _llava(tokenizer: Any, size: int) -> Any:
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**_VISION, projection_dim=16),
        text_config=LlamaConfig(**_TEXT, vocab_size=size, num_key_value_heads=2),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=4,
    )
    return LlavaForConditionalGeneration(config)


def _blip(tokenizer: Any, size: int) -> Any:
    from transformers import BlipConfig, BlipForConditionalGeneration

    text = {
        **_TEXT,
        "vocab_size": size + 2,
        "encoder_hidden_size": 16,
        "bos_token_id": size,  # [DEC], as in the released one behind the tokenizer's words
        "eos_token_id": 2,
        "pad_token_id": tokenizer.pad_token_id,
        "sep_token_id": tokenizer.sep_token_id,
    }
    config = BlipConfig(text_config=text, vision_config=_VISION, projection_dim=16)
    return BlipForConditionalGeneration(config)


def _blip2(tokenizer: Any, size: int) -> Any:
    from transformers import Blip2Config, Blip2ForConditionalGeneration

    text = {
        "model_type": "opt",
        "vocab_size": size,
        "hidden_size": 32,
        "word_embed_proj_dim": 32,
        "ffn_dim": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 256,
        "init_std": 0.3,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    queries = {**_VISION, "encoder_hidden_size": 16, "vocab_size": 10}
    queries = {key: value for key, value in queries.items() if "size" not in key or "hidden" in key}
    config = Blip2Config(
        vision_config=_VISION,
        qformer_config={**queries, "intermediate_size": 32, "vocab_size": 10},
        text_config=text,
        num_query_tokens=3,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    return Blip2ForConditionalGeneration(config)


def _image_processor(name: str) -> Any:
    from transformers import BlipImageProcessor, CLIPImageProcessor

    if name == "llava":
        return CLIPImageProcessor(
            size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}
        )
    return BlipImageProcessor(size={"height": SIZE, "width": SIZE})
