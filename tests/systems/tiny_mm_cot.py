"""A tiny T5 for MM-CoT, and a run that trains it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ademvl.config.run import BackboneSettings, RunSettings
from ademvl.config.systems import without_unread
from ademvl.systems.mm_cot.settings import MmCotSettings
from tests.tiny import make_run

SMALL = {"max_source_tokens": 96, "max_rationale_tokens": 12, "max_answer_tokens": 10}


def make_t5(*, vocab_size: int) -> Any:
    """Return a random T5 of two layers."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=vocab_size,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=0,
        dropout_rate=0.1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return T5ForConditionalGeneration(config)


def make_t5_folder(folder: Path) -> Path:
    """Write a tiny T5 with a tokenizer of its own; return the folder."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    texts = [
        f"Question: What color is the square? Context: N/A The square is {color}. Options: (A) red "
        f"(B) green Solution: Answer: The answer is ({letter})."
        for color in ("red", "green", "blue", "gray")
        for letter in "AB"
    ]
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    made.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    make_t5(vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_mm_cot_run(
    folder: Path, *, method: MmCotSettings | None = None, **changes: Any
) -> RunSettings:
    """Write everything that a tiny run of MM-CoT needs; return its settings."""
    if not (folder / "t5").is_dir():
        make_t5_folder(folder / "t5")
    run = make_run(folder, name="mm_cot", **changes)
    backbones = BackboneSettings(
        llm=str(folder / "t5"),
        tower=run.backbones.tower,
        tower_weights=run.backbones.tower_weights,
    )
    settings = method or MmCotSettings(**SMALL)
    return without_unread(replace(run, backbones=backbones, method=settings))
