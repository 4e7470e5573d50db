"""Read throughput of the feature cache, beside other ways to hold features, within one run.

    python benchmarks/feature_cache.py
    python benchmarks/feature_cache.py --tokens 65 --width 128 --images 4096

Random batches are read through the cache, from one torch.save file an image, and from one tensor in
memory, which is the bound; all files are in the page cache by then. Only ratios within one run mean
anything: speeds are the machine's. `--encode` adds what the cache saves: encoding the same batches
through a vision transformer of the same shape with random weights.
"""

import argparse
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ademvl.vision.features.cache import FeatureCache
from ademvl.vision.features.namespace import FeatureKey

PATCH_PIXELS = 14


def main() -> None:
    """Parse the sizes, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=257, help="1+G: class token and a square")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--batches", type=int, default=40, help="in each of five repetitions")
    parser.add_argument("--encode", action="store_true", help="also encode a few batches")
    parser.add_argument("--blocks", type=int, default=23, help="of the tower that encodes")
    parser.add_argument(
        "--folder", type=Path, help="where to work; a temporary folder if not given"
    )
    options = parser.parse_args()
    print("command:", shlex.join(["python", *sys.argv]))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        measure(Path(folder), options)


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Fill all stores with the same features, read the same batches from each, print the speeds."""
    generator = torch.Generator().manual_seed(0)
    shape = (options.images, options.tokens, options.width)
    features = torch.randn(shape, generator=generator).to(torch.float16)
    images = [folder / f"{number}.png" for number in range(options.images)]
    numbers = {path: number for number, path in enumerate(images)}
    for number, path in enumerate(images):
        path.write_bytes(b"%d" % number)
        torch.save(features[number].clone(), path.with_suffix(".pt"))
    cache = FeatureCache(folder / "cache", FeatureKey("bench", "bench", "fp16", "penultimate"))
    started = time.perf_counter()
    cache.ensure(
        images,
        lambda paths: features[[numbers[path] for path in paths]],
        batch_size=options.batch_size,
        progress=False,
    )
    wrote = time.perf_counter()
    reader = cache.open(images)
    opened = time.perf_counter()
    gib = features.nbytes / 2**30
    print(f"{options.images} images of {shape[1:]} fp16, {gib:.2f} GiB, batches of", end=" ")
    print(f"{options.batch_size}; written at {gib / (wrote - started):.2f} GiB/s, checksums")
    print(f"compared at {gib / (opened - wrote):.2f} GiB/s with {torch.get_num_threads()} threads")

    ways: dict[str, Callable[[Sequence[Path]], Tensor]] = {
        "feature cache": reader.read,
        "one torch.save file an image": lambda paths: torch.stack(
            [torch.load(path.with_suffix(".pt"), weights_only=True) for path in paths]
        ),
        "one tensor in memory": lambda paths: features.index_select(
            0, torch.tensor([numbers[path] for path in paths])
        ),
    }
    speeds = {name: speed(read, images, options) for name, read in ways.items()}
    if options.encode:
        speeds["encoding again"] = speed(
            tower(options), images, argparse.Namespace(**{**vars(options), "batches": 1})
        )
    print(f"{'':30} {'images/s':>10} {'GiB/s':>7} {'ratio':>8}")
    for name, per_second in speeds.items():
        ratio = speeds["feature cache"] / per_second
        rate = per_second * gib / options.images
        print(f"{name:30} {per_second:10.0f} {rate:7.2f} {ratio:8.2f}")
    print("ratio: speed of the feature cache over this way's")
    expected = ways["one tensor in memory"](images[:8])
    if not all(torch.equal(ways[name](images[:8]), expected) for name in ways):
        raise SystemExit("the ways do not give the same features")
    reader.close()


def speed(
    read: Callable[[Sequence[Path]], Tensor], images: Sequence[Path], options: argparse.Namespace
) -> float:
    """Return images per second, the median of five repetitions over random batches."""
    generator = torch.Generator().manual_seed(1)
    read(images[: options.batch_size])
    rates = []
    for _ in range(5):
        order = torch.randint(
            len(images), (options.batches, options.batch_size), generator=generator
        )
        batches = [[images[number] for number in row] for row in order.tolist()]
        started = time.perf_counter()
        for batch in batches:
            read(batch)
        seconds = time.perf_counter() - started
        rates.append(options.batches * options.batch_size / seconds)
    return statistics.median(rates)


def tower(options: argparse.Namespace) -> Callable[[Sequence[Path]], Tensor]:
    """Return an encoder of random pixels through a vision transformer of the features' shape."""
    from open_clip.transformer import VisionTransformer

    side = round((options.tokens - 1) ** 0.5) * PATCH_PIXELS
    visual = VisionTransformer(
        image_size=side,
        patch_size=PATCH_PIXELS,
        width=options.width,
        layers=options.blocks,
        heads=options.width // 64,
        mlp_ratio=4.0,
        output_dim=options.width,
    ).eval()
    pixels = torch.zeros(options.batch_size, 3, side, side)

    def encode(paths: Sequence[Path]) -> Tensor:
        with torch.inference_mode():
            return visual(pixels[: len(paths)])

    return encode


if __name__ == "__main__":
    main()
