"""The mini language model: a LLaMA small enough to ship, and how it learns to read.

Tiny models learn late to bind a choice to its letter. What makes it quick: (1) large initial
weights, (2) drills of only that at the start, (3) an auxiliary loss that asks a middle layer for
the answer word, (4) hardly any negated questions at first: while positive and negated ones are
mixed evenly, "is it there" alone says nothing about "yes", and nothing starts to learn it.
"""

import logging
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from ademvl.backbones.mini_llm_rows import Row, RowMaker, Topic, train_tokenizer
from ademvl.backbones.mini_llm_scores import evaluate_mini_llm
from ademvl.backbones.mini_llm_text import OneShape, read_wordings
from ademvl.randomness import derive_seed
from ademvl.storage.files import sha256_file, write_bytes, write_json

_log = logging.getLogger(__name__)

MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.model")


@dataclass(frozen=True, kw_only=True)
class MiniLlmSettings:
    """The recipe.

    Attributes:
        vocab_size: pieces of the tokenizer at most.
        width, layers, heads, feed_forward: of the LLaMA.
        rope_theta: base of the rotary positions; small, as sequences are short.
        init_std: of the initial weights.
        batch_size: rows of a step.
        lr: peak of AdamW's learning rate, after `warmup_steps`.
        max_drill_steps: first stage, ended at `drill_accuracy`.
        steps: second stage; in its second half the learning rate falls linearly.
        drill_share, caption_share: of the second stage's rows; the rest are questions.
        answer_layer, answer_weight: of the auxiliary loss.
        text_weight, caption_weight: of tokens of prompts and captions, beside 1 for the letter.
        accuracy_to_ramp: of the positive questions, from which more negated ones are asked.
        slot_steps: step of the second stage from which slots are used.
        slot_share: of rows with an image prefix, from then on.
        slot_noise: largest standard deviation of the slot's noise at the end, in that of the
            embeddings; it grows from zero, as adapters begin far from any word and find their way
            only where half-right vectors are read half right.
        seed: of everything.
    """

    vocab_size: int = 512
    width: int = 128
    layers: int = 4
    heads: int = 4
    feed_forward: int = 384
    rope_theta: float = 1000.0
    init_std: float = 0.08
    batch_size: int = 64
    lr: float = 3e-3
    warmup_steps: int = 100
    max_drill_steps: int = 600
    drill_accuracy: float = 0.97
    steps: int = 6000
    drill_share: float = 0.08
    caption_share: float = 0.1
    answer_layer: int = 2
    answer_weight: float = 0.5
    text_weight: float = 0.05
    caption_weight: float = 0.3
    accuracy_to_ramp: float = 0.85
    slot_steps: int = 500
    slot_share: float = 0.85
    slot_noise: float = 3.0
    seed: int = 0


def train_mini_llm(
    output_dir: Path,
    data_dir: Path,
    settings: MiniLlmSettings = MiniLlmSettings(),
    *,
    topic: Topic | None = None,
    command: str = "snakemake --cores all mini_backbones",
    progress: bool = True,
) -> dict[str, Any]:
    """Train tokenizer and model, and write both.

    Args:
        output_dir: gets config.json, model.safetensors (fp16), tokenizer.model and RECIPE.json.
        data_dir: data set in the layout of ScienceQA; the test split is used to report accuracy.
        topic: what the model learns to talk about; one coloured shape, in the wordings of the
            train split, where none is given.
        command: that trains it, for the recipe.
        progress: log the loss now and then.

    Returns:
        The content of RECIPE.json.
    """
    started = time.monotonic()
    topic = topic or OneShape(read_wordings(data_dir))
    serialized = train_tokenizer(topic, vocab_size=settings.vocab_size, seed=settings.seed)
    tokenizer = sentencepiece.SentencePieceProcessor(model_proto=serialized)
    maker = RowMaker(
        tokenizer,
        topic,
        random.Random(derive_seed(settings.seed, "mini_llm rows")),
        text_weight=settings.text_weight,
        caption_weight=settings.caption_weight,
    )
    model = _Learner(settings, tokenizer.vocab_size(), maker, progress=progress).train()
    output_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output_dir) as folder:
        model.half().save_pretrained(folder)
        write_bytes(Path(folder) / "tokenizer.model", serialized)
        for name in MODEL_FILES:
            write_bytes(output_dir / name, (Path(folder) / name).read_bytes())
    recipe = {
        "command": command,
        "settings": asdict(settings),
        "seed": settings.seed,
        "duration_seconds": round(time.monotonic() - started),
        "cores": torch.get_num_threads(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "metrics": evaluate_mini_llm(output_dir, data_dir, topic.kind_of),
        "sha256": {name: sha256_file(output_dir / name) for name in MODEL_FILES},
    }
    write_json(output_dir / "RECIPE.json", recipe)
    return recipe


class _Learner:
    """The model while it learns."""

    def __init__(
        self, settings: MiniLlmSettings, vocab_size: int, maker: RowMaker, *, progress: bool
    ) -> None:
        self._settings = settings
        self._maker = maker
        self._progress = progress
        self._generator = torch.Generator().manual_seed(derive_seed(settings.seed, "slots"))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(settings.seed, "mini_llm weights"))
            self._model: Any = _new_model(settings, vocab_size)
        parameters = list(self._model.parameters())
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if p.ndim > 1]},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.AdamW(
            groups, lr=settings.lr, betas=(0.9, 0.98), weight_decay=0.01
        )

    def train(self) -> Any:
        """Go through both stages and return the model."""
        settings = self._settings
        accuracy = 0.3
        for step in range(settings.max_drill_steps):
            rows = [self._maker.drill() for _ in range(settings.batch_size)]
            accuracy = 0.98 * accuracy + 0.02 * self._step(
                rows, self._warm_lr(step), slot_noise=0.0
            )
            self._report("drills", step, accuracy)
            if accuracy > settings.drill_accuracy:
                break
        accuracy, hard_share = 0.3, 0.02
        for step in range(settings.steps):
            fall = min(1.0, 2 * (settings.steps - step) / settings.steps)
            rows = list(self._rows(step, hard_share))
            lr = self._warm_lr(step) * (0.02 + 0.98 * fall)
            noise = settings.slot_noise * step / settings.steps
            accuracy = 0.98 * accuracy + 0.02 * self._step(rows, lr, slot_noise=noise)
            if accuracy > settings.accuracy_to_ramp and step % 50 == 0:
                hard_share = min(0.5, hard_share + 0.12)
            self._report("questions", step, accuracy)
        return self._model

    def _warm_lr(self, step: int) -> float:
        return self._settings.lr * min(1.0, (step + 1) / self._settings.warmup_steps)

    def _report(self, stage: str, step: int, accuracy: float) -> None:
        if self._progress and step % 100 == 0:
            _log.info("mini LLM, %s, step %d: accuracy %.3f", stage, step, accuracy)

    def _rows(self, step: int, hard_share: float) -> Iterator[Row]:
        settings = self._settings
        slot_share = settings.slot_share if step >= settings.slot_steps else 0.0
        num_drills = round(settings.drill_share * settings.batch_size)
        num_captions = round(settings.caption_share * settings.batch_size)
        for _ in range(num_drills):
            yield self._maker.drill()
        for _ in range(num_captions):
            yield self._maker.caption(slot_share=slot_share)
        for _ in range(settings.batch_size - num_drills - num_captions):
            yield self._maker.question(hard_share=hard_share, slot_share=slot_share)

    def _step(self, rows: Sequence[Row], lr: float, *, slot_noise: float) -> float:
        """Do one step; return the share of letters predicted right."""
        settings, model = self._settings, self._model
        ids, weights, labels = _pad(rows)
        output = model.model(
            inputs_embeds=self._embed(rows, ids, slot_noise), output_hidden_states=True
        )
        is_scored = weights > 0
        logits = model.lm_head(output.last_hidden_state[is_scored])
        targets, weights = labels[is_scored], weights[is_scored]
        losses = cross_entropy(logits, targets, reduction="none")
        loss = (losses * weights).sum() / weights.sum()
        places = [
            (i, place, row.answer_id) for i, row in enumerate(rows) for place in row.answer_places
        ]
        if places:
            row_index, place_index, words = torch.tensor(places).unbind(1)
            states = output.hidden_states[settings.answer_layer][row_index, place_index]
            answers = cross_entropy(model.lm_head(model.model.norm(states)), words)
            loss = loss + settings.answer_weight * answers
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        self._optimizer.step()
        is_letter = weights == 1
        return float((logits[is_letter].argmax(-1) == targets[is_letter]).float().mean())

    def _embed(self, rows: Sequence[Row], ids: Tensor, slot_noise: float) -> Tensor:
        """Embed tokens; slots get a random mix of their words, plus noise."""
        table = self._model.model.embed_tokens
        embeddings: Tensor = table(ids)
        slots = [(i, place, words) for i, row in enumerate(rows) for place, words in row.slots]
        if not slots:
            return embeddings
        row_index, place_index = torch.tensor([slot[:2] for slot in slots]).unbind(1)
        words = pad_sequence([torch.tensor(slot[2]) for slot in slots], True, padding_value=-1)
        draw = self._generator
        scales = 0.5 + 1.5 * torch.rand(words.shape, generator=draw)
        scales = scales * (words >= 0)
        mixed = (scales[:, :, None] * table.weight[words.clamp(min=0)]).sum(dim=1)
        noise = torch.randn(mixed.shape, generator=draw) * torch.rand(len(slots), 1, generator=draw)
        mixed = mixed + noise * slot_noise * table.weight.detach().std()
        return embeddings.index_put((row_index, place_index), mixed)


def _new_model(settings: MiniLlmSettings, vocab_size: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=settings.width,
            intermediate_size=settings.feed_forward,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            num_key_value_heads=settings.heads,
            max_position_embeddings=512,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=None,
            tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": settings.rope_theta},
            initializer_range=settings.init_std,
        )
    )


def _pad(rows: Sequence[Row]) -> tuple[Tensor, Tensor, Tensor]:
    """Pad on the right: ids, weights and labels, each (B, T); weight 0 where nothing is scored."""
    shape = len(rows), max(len(row.ids) for row in rows)
    ids, labels, weights = (
        torch.full(shape, 2),
        torch.zeros(shape, dtype=torch.long),
        torch.zeros(shape),
    )
    for index, row in enumerate(rows):
        length = len(row.ids)
        ids[index, :length] = torch.tensor(row.ids)
        if row.labels is not None:
            labels[index, :length] = torch.tensor(row.labels)
            weights[index, :length] = torch.tensor(row.weights)
        else:
            labels[index, : length - 1] = torch.tensor(row.ids[1:])
            weights[index, : length - 1] = torch.tensor(row.weights[1:])
    return ids, weights, labels
