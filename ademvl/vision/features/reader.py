"""Random access to cached features: the part of the cache that a training step runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ademvl.storage.locks import FileLock

if TYPE_CHECKING:
    from torch import Tensor


class FeatureReader:
    """Copies rows out of mapped shards; keeps their namespace from being removed while open.

    Args:
        shards: name to features (n, N, C), mapped and checked.
        places: path of an image to (shard, row).
        use: the shared lock of the namespace, released by `close`.
    """

    def __init__(
        self,
        shards: "Mapping[str, Tensor]",
        places: Mapping[Path, tuple[str, int]],
        use: FileLock,
    ) -> None:
        self._places = {path: (shards[name], row) for path, (name, row) in places.items()}
        self._use = use
        self._empty = next(iter(shards.values()))[:0] if shards else None

    def read(self, paths: Sequence[Path]) -> "Tensor":
        """Return a copy of the features of `paths`, (B, N, C), in the cache's precision.

        Raises:
            ValueError: a path was not among those the reader was opened for, or there are neither
                paths nor images to tell the shape from.
        """
        import torch

        try:
            rows = [shard[row] for shard, row in map(self._places.__getitem__, paths)]
        except KeyError as error:
            raise ValueError(f"{error.args[0]}: not among the images of this reader") from error
        if rows:
            with torch.autocast("cpu", enabled=False):  # in bf16 it refuses to stack fp16
                return torch.stack(rows)
        if self._empty is None:
            raise ValueError("no paths, and a reader of no images knows no shape")
        return self._empty.clone()

    def close(self) -> None:
        """Let the features go; `read` fails from now on."""
        self._places.clear()
        self._use.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
