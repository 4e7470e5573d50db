"""A stand-in for tower and images: features that are a function of the file's bytes alone."""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

SHAPE = (3, 4)


def make_images(folder: Path, num_images: int) -> list[Path]:
    """Write small files of different bytes; their content only has to be distinct."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:04d}.png" for number in range(num_images)]
    for number, path in enumerate(paths):
        path.write_bytes(b"image %d" % number)
    return paths


def features_of(path: Path) -> Tensor:
    """Features that fp16 and bf16 hold exactly, (3, 4): small integers from the file's bytes."""
    digest = hashlib.sha256(path.read_bytes()).digest()
    return torch.tensor(list(digest[:12]), dtype=torch.float32).view(SHAPE)


def expected(paths: Sequence[Path]) -> Tensor:
    return torch.stack([features_of(path) for path in paths])


def logging_encoder(
    log: Path, *, seconds_per_image: float = 0.0
) -> Callable[[Sequence[Path]], Tensor]:
    """Return an encoder that writes a line for each image it encodes, also from other processes."""

    def encode(paths: Sequence[Path]) -> Tensor:
        if seconds_per_image:
            time.sleep(seconds_per_image * len(paths))
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, "".join(f"{path.name}\n" for path in paths).encode())
        os.close(descriptor)
        return expected(paths)

    return encode


def encoded_names(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []
