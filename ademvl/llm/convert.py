"""Converts a folder of Meta's LLaMA releases into the layout of transformers, once.

Weights keep their stored precision. They are copied in parts of about a tenth of the checkpoint:
more than two parts are never in memory. Each part is read back and compared before it counts, and a
killed conversion goes on behind the last one. conversion.json is written last, and says that the
folder is complete.
"""

import logging
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ademvl.config.downloads import META_PARAMS_FILE
from ademvl.data.tokenizer import TOKENIZER_FILE, SentencePieceTokenizer
from ademvl.errors import DataError, WeightsError, list_findings
from ademvl.llm.meta_params import REMEDY
from ademvl.llm.source import LlmSource, is_meta_folder
from ademvl.storage.byte_sizes import format_bytes
from ademvl.storage.files import atomic_path, read_json, sha256_file, write_json
from ademvl.storage.locks import lock_file
from ademvl.storage.stand_ins import describe_stand_in_at

if TYPE_CHECKING:
    from torch import Tensor

    from ademvl.llm.meta_format import MetaCheckpoint

CONVERSION_FILE = "conversion.json"
INDEX_FILE = "model.safetensors.index.json"
_PROGRESS_FILE = ".conversion_progress.json"
_LOCK_FILE = ".conversion.lock"
_PARTS = 10
_MAX_PART_BYTES = 4 << 30

_log = logging.getLogger(__name__)


def convert_meta(
    folder: Path, output: Path, *, known_sha256: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Write the model in `folder` to `output`; do nothing where that is done already.

    Args:
        folder: params.json, consolidated.*.pth, and tokenizer.model there or beside the folder.
        output: gets config.json, model-*.safetensors with their index, tokenizer.model, and
            conversion.json.
        known_sha256: checksums of released files, by name, that are to be the same.

    Returns:
        The content of conversion.json: checksums of what was read and written, and the number of
        parameters.

    Raises:
        WeightsError: a file is missing, damaged or not the released one, or what was written does
            not read back the same.
        DataError: the disk is too small.
    """
    from ademvl.llm.meta_format import MetaCheckpoint
    from ademvl.llm.meta_shards import shard_paths

    tokenizer = _find_tokenizer(folder)
    paths = [folder / META_PARAMS_FILE, *shard_paths(folder), tokenizer]
    output.mkdir(parents=True, exist_ok=True)
    with lock_file(output / _LOCK_FILE):
        source = _describe(paths, known_sha256 or {})
        if (done := _read_done(output, source)) is not None:
            _log.info("%s: converted already", output)
            return done
        checkpoint = MetaCheckpoint.open(folder)
        _check_vocabulary(tokenizer, checkpoint)
        parts = _write_parts(checkpoint, output, source)
        content = _finish(checkpoint, tokenizer, output, source, parts)
        (output / _PROGRESS_FILE).unlink(missing_ok=True)
        return content


def _find_tokenizer(folder: Path) -> Path:
    if not is_meta_folder(folder):
        raise WeightsError(
            f"{folder}: no model in Meta's layout ({META_PARAMS_FILE} and consolidated.*.pth). "
            f"{REMEDY}"
        )
    found = LlmSource(str(folder)).find_file(TOKENIZER_FILE)
    if found is None:
        raise WeightsError(f"{folder}: no {TOKENIZER_FILE} there or beside it. {REMEDY}")
    return found


def _describe(paths: list[Path], known_sha256: Mapping[str, str]) -> dict[str, Any]:
    """Return the checksums of the source's files, after comparing them with those known."""
    found = {}
    for path in paths:
        if what := describe_stand_in_at(path):
            raise WeightsError(f"{path}: {what}")
        _log.info("reading %s", path)
        found[path.name] = sha256_file(path)
    findings = [
        f"{name}: sha256 is {found[name]}, expected {expected}"
        for name, expected in known_sha256.items()
        if name in found and found[name] != expected
    ]
    if findings:
        raise WeightsError(
            list_findings(f"{paths[0].parent}: differs from the release", findings, REMEDY)
        )
    return {"folder": str(paths[0].parent.resolve()), "sha256": found}


def _read_done(output: Path, source: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what conversion.json says where it is of the same source and its files are there."""
    try:
        content: dict[str, Any] = read_json(output / CONVERSION_FILE, remedy="It is made anew.")
        is_whole = all(
            (output / name).stat().st_size == part["bytes"]
            for name, part in content["files"].items()
        )
        if is_whole and content["source"]["sha256"] == source["sha256"]:
            return content
    except (DataError, OSError, KeyError, TypeError):
        pass
    return None


def _check_vocabulary(tokenizer: Path, checkpoint: "MetaCheckpoint") -> None:
    pieces = SentencePieceTokenizer.from_file(tokenizer).vocab_size
    if pieces > checkpoint.config.vocab_size:
        raise WeightsError(
            f"{tokenizer}: has {pieces} pieces, but {checkpoint.folder} holds a model of "
            f"{checkpoint.config.vocab_size}: they do not belong together. {REMEDY}"
        )


def _write_parts(
    checkpoint: "MetaCheckpoint", output: Path, source: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Write all weights; return for each file its bytes, checksum and names of tensors."""
    groups = list(_groups(checkpoint))
    _check_room(checkpoint, output)
    progress = _read_progress(output, source)
    for number, names in enumerate(groups, start=1):
        file = f"model-{number:05}-of-{len(groups):05}.safetensors"
        if file in progress and (output / file).is_file():
            continue
        _log.info("writing %s", output / file)
        progress[file] = _write_part(output / file, dict(checkpoint.tensors(names)))
        write_json(output / _PROGRESS_FILE, {"source": source["sha256"], "files": progress})
    return progress


def _groups(checkpoint: "MetaCheckpoint") -> Iterator[list[str]]:
    """Cut the tensors, in order, into parts of about a tenth of all bytes."""
    sizes = {name: _num_bytes(shape, checkpoint) for name, shape in checkpoint.shapes.items()}
    limit = min(sum(sizes.values()) / _PARTS, _MAX_PART_BYTES)
    group: list[str] = []
    for name, size in sizes.items():
        if group and sum(sizes[other] for other in group) + size > limit:
            yield group
            group = []
        group.append(name)
    yield group


def _num_bytes(shape: tuple[int, ...], checkpoint: "MetaCheckpoint") -> int:
    from math import prod

    itemsize: int = checkpoint.config.dtype.itemsize
    return prod(shape) * itemsize


def _check_room(checkpoint: "MetaCheckpoint", output: Path) -> None:
    there = sum(path.stat().st_size for path in output.glob("model-*.safetensors"))
    needed = sum(_num_bytes(shape, checkpoint) for shape in checkpoint.shapes.values()) - there
    free = shutil.disk_usage(output).free
    if needed > free:
        raise DataError(
            f"{output}: {format_bytes(needed)} are to be written, {format_bytes(free)} are free. "
            "Free some space, or name a folder on a larger disk."
        )


def _read_progress(output: Path, source: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    try:
        content = read_json(output / _PROGRESS_FILE, remedy="It is made anew.")
        if content["source"] == source["sha256"]:
            return dict(content["files"])
    except (DataError, KeyError, TypeError):
        pass
    for stale in output.glob("model-*.safetensors"):
        stale.unlink()
    (output / CONVERSION_FILE).unlink(missing_ok=True)
    return {}


def _write_part(path: Path, tensors: "Mapping[str, Tensor]") -> dict[str, Any]:
    """Write one file, and read it back before it gets its name."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    with atomic_path(path) as temporary:
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()},
            temporary,
            metadata={"format": "pt"},
        )
        with safe_open(temporary, framework="pt") as written:
            differing = [
                name
                for name, tensor in tensors.items()
                if not torch.equal(written.get_tensor(name), tensor)
            ]
        if differing:
            raise WeightsError(
                f"{path}: does not read back as it was written ({differing[0]}); check the disk, "
                "then run the same command again"
            )
        checksum = sha256_file(temporary)
    return {"bytes": path.stat().st_size, "sha256": checksum, "tensors": sorted(tensors)}


def _finish(
    checkpoint: "MetaCheckpoint",
    tokenizer: Path,
    output: Path,
    source: Mapping[str, Any],
    parts: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Count what was written, then write what transformers reads beside the weights."""
    num_parameters = _count_written(checkpoint, output, parts)
    config = checkpoint.config.to_dict() | {"architectures": ["LlamaForCausalLM"]}
    write_json(output / "config.json", config | {"dtype": str(config["dtype"]).split(".")[-1]})
    weight_map = {name: file for file, part in parts.items() for name in part["tensors"]}
    total_bytes = sum(_num_bytes(shape, checkpoint) for shape in checkpoint.shapes.values())
    write_json(
        output / INDEX_FILE,
        {"metadata": {"total_size": total_bytes}, "weight_map": weight_map},
    )
    with atomic_path(output / TOKENIZER_FILE) as temporary:
        shutil.copyfile(tokenizer, temporary)
    content = {
        "source": dict(source),
        "num_parameters": num_parameters,
        "files": {
            file: {"bytes": part["bytes"], "sha256": part["sha256"]} for file, part in parts.items()
        },
    }
    write_json(output / CONVERSION_FILE, content)
    return content


def _count_written(
    checkpoint: "MetaCheckpoint", output: Path, parts: Mapping[str, Mapping[str, Any]]
) -> int:
    from math import prod

    from safetensors import safe_open

    found: dict[str, tuple[int, ...]] = {}
    for file in parts:
        with safe_open(output / file, framework="pt") as written:
            for name in written.keys():  # noqa: SIM118 (not a dict)
                found[name] = tuple(written.get_slice(name).get_shape())
    expected = sum(prod(shape) for shape in checkpoint.shapes.values())
    num_written = sum(prod(shape) for shape in found.values())
    if found != dict(checkpoint.shapes):
        raise WeightsError(
            f"{output}: holds {num_written:,} parameters in {len(found)} tensors, expected "
            f"{expected:,} in {len(checkpoint.shapes)}; remove the folder and convert again"
        )
    return num_written
