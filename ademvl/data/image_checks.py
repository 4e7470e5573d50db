"""Looks at the image files of a data set: are they there, do they decode, are bytes shared."""

import hashlib
import os
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ademvl.data.acquisition.zip_images import read_image_bytes
from ademvl.data.findings import DataFinding, Kind
from ademvl.data.image_files import missing_image_findings, open_rgb, without_remedy
from ademvl.errors import DataError
from ademvl.randomness import derive_seed


@dataclass(frozen=True)
class ImageUse:
    """That an item shows an image.

    Attributes:
        item_id: the item, as in `DataFinding.item_ids`.
        owner: the item for people, such as `question 17`.
        split: train, val or test; empty where there are no splits.
        path: the image's file.
    """

    item_id: str
    owner: str
    split: str
    path: Path


def check_image_files(
    uses: Sequence[ImageUse], *, sample: int | None, seed: int, threads: int | None, progress: bool
) -> tuple[list[DataFinding], int]:
    """Check that all images are there, and that they decode.

    Images that several splits show under different names are noted; where only a sample is
    decoded, among those of the sample.

    Args:
        uses: of all images; an image may be used several times.
        sample: decode only so many, drawn by `seed`; None decodes all.
        seed: of the sample.
        threads: images decoded at once; None takes the number of CPU cores.

    Returns:
        Findings, one for an image and split, in the order of `uses`; and the number of decoded
        images.
    """
    by_path: dict[Path, list[ImageUse]] = defaultdict(list)
    for use in uses:
        by_path[use.path].append(use)
    findings = []
    present = []
    for path, users in by_path.items():
        absent = missing_image_findings([(users[0].owner, path)])
        for text in absent:
            findings += _of_image("missing_image", text, users)
        if not absent:
            present.append(path)
    if sample is not None and sample < len(present):
        present = random.Random(derive_seed(seed, "verify")).sample(present, sample)
    digests: dict[Path, str] = {}
    for path, (digest, damage) in _decoded(present, threads=threads, progress=progress):
        digests[path] = digest
        if damage:
            users = by_path[path]
            text = f"{damage} (image of {users[0].owner})"
            findings += _of_image("damaged_image", text, users)
    return [*findings, *_shared_between_splits(digests, by_path)], len(present)


def _of_image(kind: Kind, text: str, users: Sequence[ImageUse]) -> list[DataFinding]:
    """Return one finding for each split that shows an image, with all its items there."""
    items: dict[str, list[str]] = defaultdict(list)
    for use in users:
        items[use.split].append(use.item_id)
    return [
        DataFinding(kind, text, tuple(dict.fromkeys(item_ids)), split)
        for split, item_ids in items.items()
    ]


def _decoded(
    paths: Sequence[Path], *, threads: int | None, progress: bool
) -> Iterator[tuple[Path, tuple[str, str | None]]]:
    from tqdm import tqdm

    with ThreadPoolExecutor(threads or len(os.sched_getaffinity(0))) as pool:
        results = pool.map(_digest_and_decode, paths)
        yield from zip(
            paths,
            tqdm(results, "images", len(paths), unit="image", disable=None if progress else True),
            strict=True,
        )


def _digest_and_decode(path: Path) -> tuple[str, str | None]:
    """Return the digest of a file's bytes, and what is wrong with the image if anything is."""
    try:
        content = read_image_bytes(path)
    except OSError as error:
        return "", f"{path}: cannot be read ({error.strerror or error})"
    except DataError as error:  # of the archive that holds it
        return "", str(error)
    try:
        open_rgb(content, name=str(path))
    except DataError as error:
        return hashlib.sha256(content).hexdigest(), without_remedy(error)
    return hashlib.sha256(content).hexdigest(), None


def _shared_between_splits(
    digests: Mapping[Path, str], by_path: Mapping[Path, Sequence[ImageUse]]
) -> Iterable[DataFinding]:
    by_digest: dict[str, list[Path]] = defaultdict(list)
    for path, digest in digests.items():
        if digest:
            by_digest[digest].append(path)
    for paths in by_digest.values():
        first_use: dict[str, ImageUse] = {}
        for path in paths:
            for use in by_path[path]:
                first_use.setdefault(use.split, use)
        if len(first_use) > 1:
            owners = ", ".join(f"{use.owner} of {split}" for split, use in first_use.items())
            yield DataFinding("duplicate_image", f"{paths[0]}: the same image in {owners}")
