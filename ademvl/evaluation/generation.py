"""Generation with a key-value cache: greedy, sampled or by beam search; the image stays the same.

Rows of a batch end together, with padding on the left that is masked and takes no position, so
that what else is in a batch changes nothing but rounding. Beam search is that of transformers.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import torch
from torch import Tensor

from ademvl.config.evaluation import DecodingSettings
from ademvl.config.run import RunSettings
from ademvl.data.collate import Batch, pad_left
from ademvl.data.tokenizer import Tokenizer
from ademvl.evaluation.finite import refuse_not_finite
from ademvl.model.build import Answering
from ademvl.model.vision_language import VisionLanguageModel
from ademvl.randomness import derive_seed
from ademvl.systems.pretrained import GeneratingSystem

GREEDY = DecodingSettings()
_LOGITS = "logits of a next token"

Choose = Callable[[Tensor], Tensor]
"""Logits of the next tokens, (B, V), to one token id for each row, (B,)."""


def choose_likeliest(logits: Tensor) -> Tensor:
    """Return each row's most likely token, (B,) of (B, V)."""
    return logits.argmax(dim=-1)


class Sampler:
    """Draws each row's tokens with a generator of its own, so that other rows change nothing."""

    def __init__(self, settings: DecodingSettings, seeds: Sequence[int]) -> None:
        self._settings = settings
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, logits: Tensor) -> Tensor:
        """Draw one token for each row, (B,) of (B, V): the inverse of the cumulated likelihood."""
        scaled = logits.double() / self._settings.temperature
        likelihood, token_ids = scaled.softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
        cumulated = likelihood.cumsum(dim=-1)  # (B, V)
        # A token stays when those before it do not reach top_p yet: the first always does.
        is_kept = cumulated - likelihood < self._settings.top_p
        kept = torch.where(is_kept, likelihood, 0.0).cumsum(dim=-1)
        drawn = torch.cat(
            [torch.rand(1, generator=g, dtype=torch.double) for g in self._generators]
        )
        # torch.rand is below 1, but a product can round up to the sum.
        targets = drawn.to(logits.device)[:, None] * kept[:, -1:]
        places = torch.searchsorted(kept, targets, right=True)  # (B, 1)
        # Nothing is kept of what is no number, as a row may have that has ended.
        last = (is_kept.sum(dim=-1, keepdim=True) - 1).clamp(min=0)
        return token_ids.gather(1, torch.minimum(places, last)).squeeze(1)


def decoding_steps(
    model: VisionLanguageModel,
    batch: Batch,
    visual: Tensor | None,
    choose: Choose = choose_likeliest,
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """Yield the logits of each next token, (B, V), and what was chosen, (B,), without end.

    Every row goes on at each step, whatever it has generated. The caller decides when to stop and
    closes the generator: until then the model sees this batch's images.

    Args:
        model: with its adapter, in evaluation mode.
        batch: prompts, padded on the right.
        visual: see `VisionLanguageModel.labelled_logits`.
        choose: the token that is fed back.
    """
    rows = pad_left(batch)
    mask, position_ids = rows.mask.to(model.device), rows.position_ids.to(model.device)
    no_slots = torch.full_like(rows.slot_start, -1)
    with model.opened(visual, batch.has_image) as opened:
        embeddings = model.embed(rows.input_ids, rows.slot_start, opened.with_image)  # (B, T, d)
        cache = None
        while True:
            hidden_states, cache = model.decode(
                embeddings,
                attention_mask=mask,
                position_ids=position_ids,
                cache=cache,
                use_cache=True,
            )
            logits = model.last_logits(hidden_states)
            token_ids = choose(logits)  # (B,)
            yield logits, token_ids
            embeddings = model.embed(token_ids[:, None], no_slots, None)  # (B, 1, d)
            mask = torch.cat((mask, mask.new_ones(len(mask), 1)), dim=1)
            position_ids = position_ids[:, -1:] + 1


@torch.inference_mode()
def generate_texts(
    model: Answering,
    batch: Batch,
    visual: Tensor | None,
    run: RunSettings,
    tokenizer: Tokenizer,
    *,
    max_new_tokens: int | None = None,
) -> list[str]:
    """Continue each prompt as a run's evaluation settings say; return the texts, row by row.

    `max_new_tokens` stands in place of that of the settings.
    """
    generated = generate(
        model,
        batch,
        visual,
        max_new_tokens=max_new_tokens or run.evaluation.max_new_tokens,
        eos_id=tokenizer.eos_id,
        decoding=run.evaluation.decoding,
        seed=run.seed,
    )
    return [tokenizer.decode(ids) for ids in generated]


def generate(
    model: Answering,
    batch: Batch,
    visual: Tensor | None,
    *,
    max_new_tokens: int,
    eos_id: int,
    decoding: DecodingSettings = GREEDY,
    seed: int = 0,
) -> list[list[int]]:
    """Continue each prompt, up to that row's own end token.

    Args:
        model: with its adapter, in evaluation mode.
        batch: prompts, padded on the right.
        visual: see `VisionLanguageModel.labelled_logits`.
        max_new_tokens: tokens a row at most, the end token included; >= 1.
        eos_id: token that ends a row; not part of the result.
        decoding: how tokens are chosen.
        seed: of sampling; each row draws with a generator of its own, derived from it and the
            item's id.

    Returns:
        The new token ids of each row.

    Raises:
        WeightsError: logits are not finite; lists the items.
    """
    if isinstance(model, GeneratingSystem):
        return _let_generate(
            model,
            batch,
            visual,
            max_new_tokens=max_new_tokens,
            eos_id=eos_id,
            decoding=decoding,
            seed=seed,
        )
    assert isinstance(model, VisionLanguageModel)
    if decoding.strategy == "beam":
        return _search_beams(
            model, batch, visual, max_new_tokens=max_new_tokens, eos_id=eos_id, decoding=decoding
        )
    choose: Choose = choose_likeliest
    if decoding.strategy == "sample":
        choose = Sampler(decoding, [derive_seed(seed, "sample", item) for item in batch.item_ids])
    steps: list[Tensor] = []
    has_ended = torch.zeros(len(batch.item_ids), dtype=torch.bool, device=model.device)

    def choose_of_finite(logits: Tensor) -> Tensor:
        is_finite = logits.isfinite().all(dim=-1) | has_ended
        refuse_not_finite(batch.item_ids, is_finite, what=_LOGITS)
        return choose(logits)

    with closing(decoding_steps(model, batch, visual, choose_of_finite)) as chosen:
        for _, token_ids in chosen:
            steps.append(token_ids)
            has_ended |= token_ids == eos_id
            if len(steps) >= max_new_tokens or bool(has_ended.all()):
                break
    return [cut_at(row, eos_id) for row in torch.stack(steps, dim=1).tolist()]


def cut_at(token_ids: list[int], eos_id: int) -> list[int]:
    """Return the ids before the first `eos_id`."""
    return token_ids[: token_ids.index(eos_id)] if eos_id in token_ids else token_ids


def _search_beams(
    model: VisionLanguageModel,
    batch: Batch,
    visual: Tensor | None,
    *,
    max_new_tokens: int,
    eos_id: int,
    decoding: DecodingSettings,
) -> list[list[int]]:
    """Let transformers search; its beams of a row lie side by side, and all see its image."""
    rows = pad_left(batch)
    config = _generation_config(decoding, max_new_tokens=max_new_tokens, eos_id=eos_id)
    with (
        model.opened(visual, batch.has_image, rows_per_item=decoding.num_beams) as opened,
        _only_config(model.llm, config),
    ):
        found = model.llm.generate(
            inputs_embeds=model.embed(rows.input_ids, rows.slot_start, opened.with_image),
            attention_mask=rows.mask.to(model.device),
            generation_config=config,
            logits_processor=[_same_of_finite(batch.item_ids)],
        )
    return [cut_at(row, eos_id) for row in found.tolist()]


def _let_generate(
    system: GeneratingSystem,
    batch: Batch,
    visual: Tensor | None,
    *,
    max_new_tokens: int,
    eos_id: int,
    decoding: DecodingSettings,
    seed: int,
) -> list[list[int]]:
    """Let a whole system continue prompts, with the choices that all runs have."""
    config = _generation_config(decoding, max_new_tokens=max_new_tokens, eos_id=eos_id)
    start = "decoder_start_token_id"  # of those with an encoder
    setattr(config, start, getattr(system.generating.config, start, None))

    def options(item_ids: Sequence[str]) -> dict[str, Any]:
        processors = [_same_of_finite(item_ids)]
        if decoding.strategy == "sample":
            seeds = [derive_seed(seed, "sample", item) for item in item_ids]
            processors.append(_only_drawn(Sampler(decoding, seeds)))
        return {"generation_config": config, "logits_processor": processors}

    with _only_config(system.generating, config):
        found = system.generate(batch, visual, options)
    return [cut_at(row, eos_id) for row in found]


def _generation_config(decoding: DecodingSettings, *, max_new_tokens: int, eos_id: int) -> Any:
    from transformers import GenerationConfig

    return GenerationConfig(
        do_sample=False,
        num_beams=decoding.num_beams if decoding.strategy == "beam" else 1,
        length_penalty=decoding.length_penalty,
        max_new_tokens=max_new_tokens,
        eos_token_id=eos_id,
        pad_token_id=eos_id,
    )


_Processor = Callable[[Tensor, Tensor], Tensor]
"""Ids so far and scores of next tokens, a row each beam, to scores."""


def _same_of_finite(item_ids: Sequence[str]) -> _Processor:
    """Refuse scores that are not finite."""

    def process(_: Tensor, scores: Tensor) -> Tensor:
        is_finite = scores.view(len(item_ids), -1).isfinite().all(dim=-1)  # (B,)
        refuse_not_finite(item_ids, is_finite, what=_LOGITS)
        return scores

    return process


def _only_drawn(draw: Choose) -> _Processor:
    """Leave each row the token that was drawn for it."""

    def process(_: Tensor, scores: Tensor) -> Tensor:
        drawn = draw(scores)[:, None]  # (B, 1)
        return torch.full_like(scores, float("-inf")).scatter(1, drawn, 0.0)

    return process


@contextmanager
def _only_config(llm: Any, config: Any) -> Iterator[None]:
    """Keep a model folder's own generation_config.json out of a search: it would fill gaps."""
    own, llm.generation_config = llm.generation_config, config
    try:
        yield
    finally:
        llm.generation_config = own
