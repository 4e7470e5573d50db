"""Time of reading and decoding images unpacked and straight from their zip, in one run.

    python benchmarks/zip_images.py
    python benchmarks/zip_images.py --folder results/shared/unpacked/coco_caption/images/val2014
    python benchmarks/zip_images.py --images 2000 --threads 4 --cold

Only ratios within one run mean anything. Without --folder, JPEGs of COCO's size are made. --cold
asks the kernel to forget the files before each pass, so that the disk counts; warm passes show the
cost of the way itself.
"""

import argparse
import os
import random
import shlex
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from taking_turns import take_turns

from ademvl.data.acquisition.zip_images import read_image_bytes
from ademvl.data.image_files import open_rgb

PASSES = 5


def main() -> None:
    """Parse the sizes, make the archive, measure in turns, print a table with the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="folder of images (default: made ones)")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cold", action="store_true", help="drop files from memory before a pass")
    options = parser.parse_args()
    print("command:", shlex.join(["python", *sys.argv]))
    with tempfile.TemporaryDirectory() as name:
        unpacked, packed = _prepare(options, Path(name))
        megabytes = sum(path.stat().st_size for path in unpacked) / 1e6
        print(f"{len(unpacked)} images, {megabytes:.1f} MB, {options.threads} threads")
        print(f"{'step':8} {'unpacked s':>11} {'zip s':>8} {'zip/unpacked':>13}")
        forget = partial(_forget, [*unpacked, packed[0].parent.with_suffix(".zip")])
        for step, work in (("read", read_image_bytes), ("decode", open_rgb)):
            seconds = take_turns(
                {
                    way: partial(_read_all, work, paths, threads=options.threads)
                    for way, paths in (("unpacked", unpacked), ("zip", packed))
                },
                turns=PASSES,
                clock=time.perf_counter,
                before=forget if options.cold else lambda: None,
            )
            one, other = seconds["unpacked"], seconds["zip"]
            print(f"{step:8} {one:11.3f} {other:8.3f} {other / one:13.2f}")


def _read_all(work: Callable[[Path], object], paths: Sequence[Path], *, threads: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, paths))


def _prepare(options: argparse.Namespace, folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the same images unpacked and packed, in the same random order."""
    source = options.folder or _make_images(folder / "made", options.images)
    files = sorted(path for path in source.rglob("*") if path.is_file())[: options.images]
    random.Random(0).shuffle(files)
    with zipfile.ZipFile(folder / "images.zip", "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(files):
            archive.write(path, f"images/{path.relative_to(source)}")
    return files, [folder / "images" / path.relative_to(source) for path in files]


def _make_images(folder: Path, number: int) -> Path:
    folder.mkdir()
    generator = np.random.default_rng(0)
    for index in range(number):
        coarse = generator.integers(0, 255, (60, 80, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC)
        image.save(folder / f"{index:06}.jpg", quality=92)
    return folder


def _forget(paths: Sequence[Path]) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


if __name__ == "__main__":
    main()
