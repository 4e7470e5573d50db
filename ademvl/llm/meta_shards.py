"""Maps the shards of Meta's releases (consolidated.*.pth) and finds those missing or doubled."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ademvl.errors import WeightsError, list_findings
from ademvl.llm.meta_params import REMEDY, MetaParams
from ademvl.storage.weight_files import read_weights

_NAME = re.compile(r"consolidated\.(\d\d)\.pth")
_SPLIT_BY_ROWS = "layers.0.attention.wq.weight"  # its rows are the model's width, in all shards
_IN_EVERY_SHARD = "norm.weight"
_LAYER = re.compile(r"layers\.(\d+)\.")

Shard = Mapping[str, Tensor]


def shard_paths(folder: Path) -> list[Path]:
    """Return the files that hold the weights, in order."""
    return sorted(folder.glob("consolidated.*.pth"))


def map_shards(folder: Path) -> list[Shard]:
    """Map all shards of a folder; no weight is read yet.

    Raises:
        WeightsError: there is none, one is damaged or holds anything but tensors, or the numbers in
            their names do not count up from 00.
    """
    paths = shard_paths(folder)
    if not paths:
        raise WeightsError(f"{folder}: no consolidated.*.pth. {REMEDY}")
    if findings := list(_name_findings(paths)):
        raise WeightsError(list_findings(f"{folder}: not all shards, once each", findings, REMEDY))
    return [_map_shard(path) for path in paths]


def _name_findings(paths: Sequence[Path]) -> Iterator[str]:
    named = {path: _NAME.fullmatch(path.name) for path in paths}
    numbers = {int(match[1]) for match in named.values() if match}
    for path, match in named.items():
        if not match:
            yield f"{path.name}: no shard's name, such as consolidated.00.pth; remove or rename it"
    for number in sorted(set(range(max(numbers, default=0))) - numbers):
        yield f"consolidated.{number:02}.pth: missing"


def _map_shard(path: Path) -> Shard:
    shard = read_weights(path, remedy=REMEDY, mmap=True)
    is_state = isinstance(shard, dict) and shard
    if not is_state or not all(isinstance(tensor, Tensor) for tensor in shard.values()):
        raise WeightsError(f"{path}: holds no tensors by name, expected a shard. {REMEDY}")
    named: Shard = shard
    return named


def check_shards(folder: Path, shards: Sequence[Shard], params: MetaParams) -> None:
    """Compare the shards with each other and with params.json, as far as single tensors tell.

    Raises:
        WeightsError: lists shards that are missing, one too many, copies of each other or of
            another model, and entries of params.json that are of another model.
    """
    names = [path.name for path in shard_paths(folder)]
    findings = [*_number_findings(names, shards, params), *_mixed_findings(names, shards)]
    findings = findings or list(_params_findings(shards, params))
    if findings:
        raise WeightsError(
            list_findings(f"{folder}: shards and params.json do not fit", findings, REMEDY)
        )


def _params_findings(shards: Sequence[Shard], params: MetaParams) -> Iterator[str]:
    first = shards[0]
    layers = 1 + max((int(m[1]) for name in first if (m := _LAYER.match(name))), default=-1)
    if layers != params.layers:
        yield f"params.json: n_layers is {params.layers}, but the shards hold {layers} layers"
    norm = first.get(_IN_EVERY_SHARD)
    if norm is not None and norm.shape != (params.width,):
        yield f"params.json: dim is {params.width}, but the shards are {norm.numel()} wide"
    for name, freqs in first.items():
        if name.endswith("rope.freqs") and freqs.numel() != params.head_dim // 2:
            yield (
                f"params.json: n_heads is {params.heads}, which makes heads {params.head_dim} "
                f"wide, but those of the shards are {2 * freqs.numel()} wide ({name})"
            )
            break
    output = [shard["output.weight"].shape[0] for shard in shards if "output.weight" in shard]
    if params.vocabulary is not None and sum(output) != params.vocabulary:
        yield f"params.json: vocab_size is {params.vocabulary}, but the shards hold {sum(output)}"


def _number_findings(
    names: Sequence[str], shards: Sequence[Shard], params: MetaParams
) -> Iterator[str]:
    rows = [shard[_SPLIT_BY_ROWS].shape[0] for shard in shards if _SPLIT_BY_ROWS in shard]
    if not rows or not rows[0] or params.width % rows[0]:
        return
    expected = params.width // rows[0]
    for number in range(len(names), expected):
        yield f"consolidated.{number:02}.pth: missing; {expected} shards make the model"
    for name in names[expected:]:
        yield f"{name}: one too many; {expected} shards make the model"


def _mixed_findings(names: Sequence[str], shards: Sequence[Shard]) -> Iterator[str]:
    for later, shard in enumerate(shards):
        for earlier in range(later):
            other = shards[earlier]
            if _is_same(shard, other, _SPLIT_BY_ROWS):
                yield f"{names[later]}: holds the weights of {names[earlier]} once more"
                break
        if later and _IN_EVERY_SHARD in shard and not _is_same(shard, shards[0], _IN_EVERY_SHARD):
            yield f"{names[later]}: of another model than {names[0]} ({_IN_EVERY_SHARD} differs)"


def _is_same(one: Shard, other: Shard, name: str) -> bool:
    return name in one and name in other and torch.equal(one[name], other[name])
