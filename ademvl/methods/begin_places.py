"""Vectors before the begin token of every row, which no other place of the row attends to.

They stand at positions 0 to P - 1 and the text behind them, whatever padding is between. The model
around does not see them: they come in where the decoder is entered and are cut off where it is
left, in a pass with a cache and in a search of transformers too. (LaVIN's modality token is one.)
"""

from typing import Any

import torch
from torch import Tensor

from ademvl.errors import SettingsError
from ademvl.methods.sites import Attachment

_WINDOW = "sliding_attention"  # a kind of layer, in `layer_types` of transformers
_CACHE_NAMES = ("past_key_values", "cache")  # the second from transformers 5.24 on


def attach_begin_places(llm: Any, attachment: Attachment, num_places: int) -> None:
    """Put `Pass.before_begin` in front of every row that a decoder reads.

    Args:
        llm: model of transformers with its decoder in `llm.model`.
        attachment: finds the passes.
        num_places: P; 0 leaves the model as it is.
    """
    if not num_places:
        return
    implementation = llm.config._attn_implementation
    if implementation not in ("sdpa", "eager"):
        raise SettingsError(
            f"{type(llm).__name__}: attention {implementation} takes no mask of its own for places "
            "before the begin token; load the model with sdpa"
        )
    is_additive = implementation == "eager"  # the other takes truths
    is_first = False

    def enter(
        decoder: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        nonlocal is_first
        vectors = attachment.current.before_begin
        if args:
            raise ValueError("name the decoder's arguments: a method puts vectors in front of them")
        if vectors is None:
            raise ValueError("a method with places before the begin token gave no vectors for them")
        cache = next((kwargs[name] for name in _CACHE_NAMES if kwargs.get(name) is not None), None)
        num_cached = cache.get_seq_length() if cache is not None else 0
        is_first = not num_cached
        is_counted = is_first or attachment.current.counts_begin_later
        kwargs = _with_places(
            decoder, kwargs, vectors, num_cached=num_cached, is_counted=is_counted
        )
        masks = _by_kind(llm.config.get_text_config(), kwargs["attention_mask"], cache)
        if is_additive:
            embeddings = kwargs["inputs_embeds"]
            masks = {kind: _additive(mask, embeddings) for kind, mask in masks.items()}
        kwargs["attention_mask"] = masks if len(masks) > 1 else next(iter(masks.values()))
        return args, kwargs

    def leave(decoder: Any, args: tuple[Any, ...], output: Any) -> Any:
        if is_first:
            output.last_hidden_state = output.last_hidden_state[:, num_places:]
        return output

    for handle in (
        llm.model.register_forward_pre_hook(enter, with_kwargs=True),
        llm.model.register_forward_hook(leave),
    ):
        attachment.on_detach(handle.remove)


def _with_places(
    decoder: Any, kwargs: dict[str, Any], vectors: Tensor, *, num_cached: int, is_counted: bool
) -> dict[str, Any]:
    """Return a decoder's arguments with the vectors in front, or behind those in its cache.

    Args:
        decoder: for its table of embeddings.
        kwargs: as it was called.
        vectors: (B, P, d).
        num_cached: places in the cache, P included; 0 for a first call.
        is_counted: whether the text's positions count the places in front of it.
    """
    kwargs = dict(kwargs)
    input_ids, embeddings = kwargs.pop("input_ids", None), kwargs.get("inputs_embeds")
    if embeddings is None:
        embeddings = decoder.get_input_embeddings()(input_ids)  # (B, T, d)
    batch_size, num_tokens, _ = embeddings.shape
    num_places, device = vectors.shape[1], embeddings.device
    positions = kwargs.get("position_ids")  # of the text, counted without the places
    if positions is None:
        positions = torch.arange(num_tokens, device=device)[None] + max(num_cached - num_places, 0)
    positions = positions.expand(batch_size, num_tokens) + (num_places if is_counted else 0)
    if not num_cached:
        own = torch.arange(num_places, device=device).expand(batch_size, num_places)
        positions = torch.cat((own, positions), dim=1)  # (B, P + T)
        embeddings = torch.cat((vectors.to(embeddings.dtype), embeddings), dim=1)
    length = num_cached + embeddings.shape[1]
    kwargs |= {
        "inputs_embeds": embeddings,
        "position_ids": positions,
        "attention_mask": _visible(
            kwargs.get("attention_mask"), num_places, num_cached, embeddings
        ),
    }
    if kwargs.get("cache_position") is not None:  # in the first releases of transformers 5
        kwargs["cache_position"] = torch.arange(num_cached, length, device=device)
    return kwargs


def _visible(
    padding: Tensor | None, num_places: int, num_cached: int, embeddings: Tensor
) -> Tensor:
    """Return which keys each query sees, (B, 1, queries, keys) bool.

    A place sees itself and those before it that are no padding; places before the begin token are
    seen by each other alone.
    """
    length, device = num_cached + embeddings.shape[1], embeddings.device
    queries = torch.arange(num_cached, length, device=device)[:, None]
    keys = torch.arange(length, device=device)[None]
    sees = (keys <= queries) & ((keys >= num_places) | (queries < num_places))  # (queries, keys)
    sees = sees.expand(len(embeddings), 1, -1, -1)
    if padding is None:
        return sees
    own = padding.new_ones(len(padding), num_places)
    is_token = torch.cat((own, padding), dim=1).bool()  # (B, keys)
    return (sees & is_token[:, None, None]) | (keys == queries)


def _by_kind(config: Any, visible: Tensor, cache: Any) -> dict[str, Tensor]:
    """Return the mask of each kind of layer; some see no further back than their window.

    Args:
        config: of the decoder; one without `layer_types` has layers of one kind, as Mistral has.
        visible: (B, 1, queries, keys) bool, without windows.
        cache: of keys and values, which keeps no more of a layer with a window than it needs.
    """
    kinds = getattr(config, "layer_types", None) or [_WINDOW]
    window = getattr(config, "sliding_window", None)
    if window is None or _WINDOW not in kinds:
        return {"": visible}
    num_queries, num_keys = visible.shape[-2:]
    keys = torch.arange(num_keys, device=visible.device)
    is_near = keys > keys[num_keys - num_queries :, None] - window  # (queries, keys)
    near = visible & is_near
    if cache is not None:
        length, offset = cache.get_mask_sizes(num_queries, kinds.index(_WINDOW))
        near = near[..., offset : offset + length]
    return {kind: near if kind == _WINDOW else visible for kind in dict.fromkeys(kinds)}


def _additive(visible: Tensor, embeddings: Tensor) -> Tensor:
    """Return what is added to attention scores: 0, or the dtype's minimum where nothing is seen."""
    hidden = torch.finfo(embeddings.dtype).min
    return torch.zeros_like(visible, dtype=embeddings.dtype).masked_fill(~visible, hidden)
