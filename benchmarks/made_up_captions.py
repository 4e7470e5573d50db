"""Made-up captions, and scoring them in a process of its own: for benchmarks."""

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def write_made_up_captions(folder: Path, *, num_images: int = 5000) -> None:
    """Write references.json, five an image, and results.json: sentences of invented words."""
    generator = random.Random(0)

    def word() -> str:
        syllables = (
            generator.choice("bcdfghjklmnprstvwz") + generator.choice("aeiou")
            for _ in range(generator.randint(1, 3))
        )
        return "".join(syllables) + generator.choice(["", "n", "s", "r"])

    words = list(dict.fromkeys(word() for _ in range(6000)))

    def one(words: Sequence[str]) -> str:
        """Few words are frequent, many are rare."""
        return words[int(len(words) ** generator.random()) - 1]

    def caption(things: Sequence[str]) -> str:
        first, second = generator.sample(things, 2)
        where = generator.choice(["on", "in", "near", "next to", "with", "under", "behind"])
        more = ["", " .", f", two {one(words)}'s and a {one(words)}.", f" {where} {one(words)}"]
        start = f"A {one(words)} {first} {one(words)}ing {where} the {second}"
        return start + generator.choice(more)

    images, annotations, results = [], [], []
    for image_id in range(num_images):
        things = [one(words) for _ in range(3)]
        images.append({"id": image_id})
        for number in range(5 * image_id, 5 * image_id + 5):
            row = {"id": number, "image_id": image_id, "caption": caption(things)}
            annotations.append(row)
        results.append({"image_id": image_id, "caption": caption(things).lower()})
    content = {"images": images, "annotations": annotations}
    (folder / "references.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")


def score_captions_alone(folder: Path) -> dict[str, float]:
    """Score what `write_made_up_captions` wrote in a process of its own; return the percentages."""
    output = folder / "scores.json"
    arguments = ["--references", folder / "references.json", "--results", folder / "results.json"]
    command = [sys.executable, "-m", "ademvl", "score", "captions", *arguments, "--output", output]
    # In that folder, as `-m` takes a package from the present one first.
    subprocess.run([str(part) for part in command], check=True, capture_output=True, cwd=folder)
    metrics = json.loads(output.read_text(encoding="utf-8"))["metrics"]
    return {name: metric["percent"] for name, metric in metrics.items()}
