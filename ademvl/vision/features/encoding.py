"""Encodes images of the feature cache, and refuses what must not get into it.

Where features are kept, and who encodes which images, is the cache's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ademvl.config.run import Precision
from ademvl.errors import CacheError, DataError, list_findings
from ademvl.vision.features.image_digests import digest_images

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class EncodeJob:
    """How to get features of images that are known by their digest.

    Attributes:
        sources: a file of each image, by digest.
        encode: from paths to features (n, N, C) of any floating dtype, on any device.
        announce: told all paths that are about to be encoded, in their order.
        batch_size: most paths given to one call of `encode`.
    """

    sources: Mapping[str, Path]
    encode: Callable[[Sequence[Path]], "Tensor"]
    announce: Callable[[Sequence[Path]], None] | None
    batch_size: int

    def run(
        self, images: Sequence[str], precision: Precision, advance: Callable[[int], object]
    ) -> "Tensor":
        """Return features (n, N, C) in `precision`.

        Raises:
            CacheError: features are not finite in this precision; names the images.
            DataError: image files have changed since they were hashed.
            ValueError: `encode` gives another shape.
        """
        import torch

        from ademvl.machine.precision import DTYPES

        paths = [self.sources[image] for image in images]
        if self.announce:
            self.announce(paths)
        parts = []
        for start in range(0, len(paths), self.batch_size):
            batch = paths[start : start + self.batch_size]
            encoded = self.encode(batch)
            if encoded.ndim != 3 or len(encoded) != len(batch):
                raise ValueError(f"encode gave {tuple(encoded.shape)} for {len(batch)} images")
            part = encoded.detach().to(device="cpu", dtype=DTYPES[precision])
            finite = part.isfinite().flatten(1).all(dim=1).tolist()
            if not all(finite):
                findings = [str(path) for path, good in zip(batch, finite, strict=True) if not good]
                remedy = "Use features.precision bf16 or fp32, and check the tower's weights."
                raise CacheError(
                    list_findings(f"features are not finite in {precision}", findings, remedy)
                )
            parts.append(part)
            advance(len(batch))
        self._refuse_changed(paths, images)
        return torch.cat(parts)

    def _refuse_changed(self, paths: Sequence[Path], images: Sequence[str]) -> None:
        """Features must be those of the bytes that were hashed, or they would be stale at once."""
        digests = digest_images(paths, progress=False)
        changed = [
            str(path) for path, image in zip(paths, images, strict=True) if digests[path] != image
        ]
        if changed:
            remedy = "Let the data set be written completely, then run the same command again."
            raise DataError(list_findings("images changed while encoded", changed, remedy))
