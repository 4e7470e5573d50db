"""Reads params.json of Meta's releases strictly: the sizes of a LLaMA model."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ademvl.errors import WeightsError, list_findings
from ademvl.storage.files import read_json

DEFAULT_ROPE_THETA = 10_000.0  # LLaMA 1 and 2, whose params.json does not say
REMEDY = "Get the folder again from where the weights were released."

_SIZES = ("dim", "n_layers", "n_heads")
_OPTIONAL_SIZES = ("n_kv_heads", "multiple_of")
_OPTIONAL_NUMBERS = ("rope_theta", "ffn_dim_multiplier")
_MAX_NUMBER = 1e30


@dataclass(frozen=True)
class MetaParams:
    """Sizes of a model.

    Attributes:
        width: d, of the hidden states.
        layers: number of decoder layers.
        heads, kv_heads: of attention.
        norm_eps: of RMSNorm.
        rope_theta: base of the rotary frequencies.
        vocabulary: number of tokens; None where the tensors decide.
        multiple_of: what the width of the MLP is rounded up to; None where the file does not say.
        ffn_multiplier: factor of the MLP's width.
    """

    width: int
    layers: int
    heads: int
    kv_heads: int
    norm_eps: float
    rope_theta: float
    vocabulary: int | None
    multiple_of: int | None
    ffn_multiplier: float

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.width // self.heads


def read_meta_params(path: Path) -> MetaParams:
    """Read params.json.

    Raises:
        DataError: the file is missing or no JSON.
        WeightsError: lists the entries that are missing, no numbers of their kind, or contradict
            each other; or the rotary frequencies are scaled, which Meta's layout does not describe.
    """
    params = read_json(path, remedy=REMEDY)
    if not isinstance(params, dict):
        raise WeightsError(f"{path}: holds a {type(params).__name__}, expected an object. {REMEDY}")
    if findings := list(_findings(params)):
        raise WeightsError(list_findings(f"{path}: fits no LLaMA model", findings, REMEDY))
    if params.get("use_scaled_rope"):
        raise WeightsError(
            f"{path}: use_scaled_rope is not supported in Meta's layout; use the same model in "
            "the layout of transformers"
        )
    vocabulary = params.get("vocab_size", -1)
    return MetaParams(
        width=params["dim"],
        layers=params["n_layers"],
        heads=params["n_heads"],
        kv_heads=params.get("n_kv_heads") or params["n_heads"],
        norm_eps=float(params["norm_eps"]),
        rope_theta=float(params.get("rope_theta") or DEFAULT_ROPE_THETA),
        vocabulary=None if vocabulary == -1 else vocabulary,  # as most releases say
        multiple_of=params.get("multiple_of"),
        ffn_multiplier=float(params.get("ffn_dim_multiplier") or 1),
    )


def _findings(params: Mapping[str, Any]) -> Iterator[str]:
    for name in (*_SIZES, "norm_eps"):
        if name not in params:
            yield f"{name} is missing"
    wrong = []
    for name in (*_SIZES, *_OPTIONAL_SIZES):
        value = params.get(name)
        if value is None and (name not in params or name in _OPTIONAL_SIZES):
            continue
        if not _is_size(value):
            wrong.append(f"{name} is {value!r}, expected a whole number of at least 1")
    for name in _OPTIONAL_NUMBERS:
        value = params.get(name)
        if value is not None and not (_is_number(value) and 0 < value < _MAX_NUMBER):
            wrong.append(f"{name} is {value!r}, expected a number above 0")
    eps, vocabulary = params.get("norm_eps", 1e-6), params.get("vocab_size", -1)
    if not (_is_number(eps) and 0 < eps < 1):
        wrong.append(f"norm_eps is {eps!r}, expected a number between 0 and 1")
    if not (_is_size(vocabulary) or vocabulary == -1):
        wrong.append(f"vocab_size is {vocabulary!r}, expected a whole number, or -1")
    yield from wrong
    if not wrong and all(name in params for name in _SIZES):
        yield from _contradictions(params)


def _contradictions(params: Mapping[str, Any]) -> Iterator[str]:
    width, heads = params["dim"], params["n_heads"]
    kv_heads = params.get("n_kv_heads") or heads
    if width % (2 * heads):
        yield f"dim {width} does not divide into n_heads {heads} heads of an even width"
    if heads % kv_heads:
        yield f"n_heads {heads} does not divide by n_kv_heads {kv_heads}"


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
