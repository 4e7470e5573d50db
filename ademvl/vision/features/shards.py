"""One file of cached image features: written whole, named by its checksum, mapped into memory.

A shard is a safetensors file with one tensor `features` (n, N, C); its metadata list the SHA-256
of the n images' files and the namespace it belongs to. Its name is the SHA-256 of its own bytes, so
that damage, truncation and a shard under another one's name all show in one comparison.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ademvl.config.run import PRECISION_BYTES, Precision
from ademvl.storage.files import sha256_file, write_bytes

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"
_STORED_DTYPES: dict[Precision, str] = {"fp32": "F32", "fp16": "F16", "bf16": "BF16"}

Signature = tuple[int, int, int]


class DamagedShardError(Exception):
    """A shard's content is not what was written, or not of the namespace it lies in."""


@dataclass(frozen=True)
class ShardHeader:
    """What a shard says of itself.

    Attributes:
        images: hex SHA-256 of the images' files, in the order of the tensor's rows.
        shape: (n, N, C).
        image_bytes: size of one image's features.
    """

    images: tuple[str, ...]
    shape: tuple[int, ...]
    image_bytes: int


def write_shard(folder: Path, namespace: str, images: Sequence[str], features: "Tensor") -> Path:
    """Write a shard under its checksum, atomically.

    Args:
        folder: where shards of the namespace lie.
        namespace: id of the namespace, recorded in the file.
        images: hex SHA-256 of the images' files.
        features: (n, N, C) in the precision of the namespace.

    Raises:
        OSError: for example no space left; nothing stands under a final name then.
    """
    from safetensors.torch import save

    metadata = {"namespace": namespace, "images": " ".join(images)}
    content = save({"features": features.contiguous()}, metadata=metadata)
    path = folder / (hashlib.sha256(content).hexdigest() + SUFFIX)
    write_bytes(path, content)
    return path


def read_header(path: Path, namespace: str, precision: Precision) -> ShardHeader:
    """Read what a shard says of itself, without its features and without checking their bytes.

    Raises:
        DamagedShardError: not a shard of this namespace and precision.
        OSError: the file cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as shard:
            metadata = shard.metadata() or {}
            if list(shard.keys()) != ["features"]:
                raise DamagedShardError("has no tensor 'features'")
            stored = shard.get_slice("features")
            shape, dtype = tuple(stored.get_shape()), stored.get_dtype()
    except SafetensorError as error:
        raise DamagedShardError(f"not a readable safetensors file ({error})") from error
    if metadata.get("namespace") != namespace:
        raise DamagedShardError(f"belongs to namespace {metadata.get('namespace')!r}")
    images = tuple(metadata.get("images", "").split())
    if len(shape) != 3 or dtype != _STORED_DTYPES[precision] or shape[0] != len(images):
        raise DamagedShardError(f"holds {dtype} {shape} for {len(images)} images")
    return ShardHeader(images, shape, shape[1] * shape[2] * PRECISION_BYTES[precision])


def check_bytes(path: Path) -> None:
    """Compare a shard's bytes with its name.

    Raises:
        DamagedShardError: they differ, or the device cannot read them.
        FileNotFoundError, PermissionError: as the system says.
    """
    try:
        found = sha256_file(path)
    except (FileNotFoundError, PermissionError):
        raise
    except OSError as error:
        raise DamagedShardError(f"cannot be read ({error.strerror})") from error
    if found != path.name.removesuffix(SUFFIX):
        raise DamagedShardError(f"checksum is {found[:16]}..., not that of its name")


def map_features(path: Path) -> "Tensor":
    """Map a checked shard's features into memory, (n, N, C); pages are read when touched."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as shard:
        features: Tensor = shard.get_tensor("features")
    return features


def signature(path: Path) -> Signature:
    """Return inode, size and time of change: another file under the same name has another one.

    Raises:
        OSError: the file is missing or cannot be seen.
    """
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
