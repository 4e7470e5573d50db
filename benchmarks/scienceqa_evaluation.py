"""Time of answering ScienceQA questions: one pass a batch, beside generation as the reference does.

    OMP_NUM_THREADS=1 python benchmarks/scienceqa_evaluation.py
    python benchmarks/scienceqa_evaluation.py --questions 600 --batch-size 128

The mini models answer the mini study's questions with an untrained adapter, so only times mean
anything, and of those only ratios within one run. Ways, each over the same questions:

- `one pass, cached`: ours with features from the cache, each image encoded once and before.
- `one pass, online`: ours with pixels through the tower; questions without image encode none.
- `loop, online`: the reference's way. Batches of 4, padded on the left to the longest prompt; an
  image is encoded for every question, a black one where there is none; then a generation loop with
  a key-value cache feeds the full width and stops after one token.
- `loop, cached`: the same loop with features from the cache.

Both loops and passes must name the same choices, or the benchmark ends with an error.
"""

import argparse
import logging
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from taking_turns import take_turns
from torch import Tensor

from ademvl.config.dataset import DatasetSettings
from ademvl.config.run import FeatureSettings, PromptSettings, RunSettings
from ademvl.data.collate import Batch, collate
from ademvl.data.mini import convert_easy_vqa
from ademvl.data.rows import RowLayout, TokenizedExample, tokenize_examples
from ademvl.data.tokenizer import load_tokenizer
from ademvl.evaluation.generation import decoding_steps
from ademvl.llm.source import MINI_LLM_DIR
from ademvl.machine.cpu_kernels import fast_cpu
from ademvl.methods.adem.settings import AdemSettings
from ademvl.model.build import build_model
from ademvl.model.vision_language import VisionLanguageModel
from ademvl.tasks.scienceqa.examples import scienceqa_evaluation_examples
from ademvl.tasks.scienceqa.reader import load_scienceqa
from ademvl.vision.features.source import VisualSource, open_visual_source

REFERENCE_BATCH_SIZE = 4
REPETITIONS = 3
SEED = 1


@dataclass(frozen=True)
class Setup:
    """A model with the visual input of its rows."""

    model: VisionLanguageModel
    source: VisualSource


def main() -> None:
    """Parse the sizes, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=64, help="of the one pass")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    print("command:", shlex.join(["python", *sys.argv]), f"({torch.get_num_threads()} threads)")
    with tempfile.TemporaryDirectory(prefix="ademvl-benchmark-") as name, fast_cpu():
        setups, rows = _prepare(Path(name), num_questions=options.questions)
        ways: dict[str, Callable[[], list[int]]] = {}
        for mode, setup in setups.items():
            ways[f"one pass, {mode}"] = _bound(_one_pass, setup, rows, options.batch_size)
            ways[f"loop, {mode}"] = _bound(_loop, setup, rows, REFERENCE_BATCH_SIZE)
        seconds = _measure(ways)
    slowest = seconds["loop, online"]
    print(f"{'way':18} {'questions/s':>12} {'times the loop, online':>24}")
    for way, taken in seconds.items():
        print(f"{way:18} {len(rows) / taken:12.1f} {slowest / taken:24.2f}")


def _prepare(
    folder: Path, *, num_questions: int
) -> tuple[dict[str, Setup], list[TokenizedExample]]:
    """Make data, models with untrained adapters, and rows; fill the feature cache."""
    sizes = {"train_questions": 8, "val_questions": 8, "test_questions": num_questions}
    sizes |= {"caption_train_images": 1, "caption_val_images": 50, "caption_test_images": 1}
    convert_easy_vqa(folder / "data", DatasetSettings(**sizes))
    cached = RunSettings(
        study="benchmark",
        name="evaluation",
        seed=0,
        task="scienceqa",
        data_dir=str(folder / "data" / "scienceqa"),
        method=AdemSettings(scales=(64, 16), beta=0.1),
        features=FeatureSettings(mode="cached", cache_dir=str(folder / "features")),
        prompts=PromptSettings(max_seq_len=256),
    )
    examples = scienceqa_evaluation_examples(
        load_scienceqa(Path(cached.data_dir)), "test", cached.prompts, "shown"
    )
    tokenizer = load_tokenizer(MINI_LLM_DIR)
    layout = RowLayout.of_run(cached, tokenizer)
    rows = tokenize_examples(tokenizer, examples, layout, max_seq_len=cached.prompts.max_seq_len)
    images = list(dict.fromkeys(row.image for row in rows if row.image is not None))
    setups = {}
    for mode in ("cached", "online"):
        run = replace(cached, features=replace(cached.features, mode=mode))
        model = build_model(run).eval()
        model.initialize(SEED)
        setups[mode] = Setup(
            model,
            open_visual_source(run, images, tower=model.tower, device=model.device, progress=False),
        )
    return setups, rows


def _bound(
    way: Callable[[Setup, Batch], Tensor],
    setup: Setup,
    rows: Sequence[TokenizedExample],
    batch_size: int,
) -> Callable[[], list[int]]:
    """Return a function that answers all rows in batches and returns the tokens."""

    def run() -> list[int]:
        tokens: list[int] = []
        with torch.inference_mode():
            for start in range(0, len(rows), batch_size):
                batch = collate(rows[start : start + batch_size], trim_after_labels=False)
                tokens += way(setup, batch).argmax(dim=-1).tolist()
        return tokens

    return run


def _one_pass(setup: Setup, batch: Batch) -> Tensor:
    return setup.model.next_token_logits(batch, setup.source.for_batch(batch))


def _loop(setup: Setup, batch: Batch) -> Tensor:
    """Generate one token as the reference does: (B, V)."""
    visual = setup.source.for_batch(batch)
    tower = setup.model.tower
    num_black = int((~batch.has_image).sum())
    if tower is not None and num_black:
        tower.encode(torch.zeros(num_black, 3, tower.image_size, tower.image_size))
    with closing(decoding_steps(setup.model, batch, visual)) as steps:
        logits, _ = next(steps)
        return logits


def _measure(ways: dict[str, Callable[[], list[int]]]) -> dict[str, float]:
    """Return the median wall-clock seconds of each way, taking turns; check equal answers."""
    tokens = {way: run() for way, run in ways.items()}  # also warms up
    for mode in ("cached", "online"):
        if tokens[f"one pass, {mode}"] != tokens[f"loop, {mode}"]:
            sys.exit(f"{mode}: one pass and loop do not give the same answers")
    return take_turns(ways, turns=REPETITIONS, clock=time.perf_counter)


if __name__ == "__main__":
    main()
