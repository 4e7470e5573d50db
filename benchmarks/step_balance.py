"""How many tokens devices compute for each real one, and hold at once, in training steps.

    python benchmarks/step_balance.py                       # against the commit before
    python benchmarks/step_balance.py --before HEAD~3 --steps 400

Steps of 32 questions of ScienceQA, drawn as in training, go through the trainer of an earlier
commit and of the present code, once for each device; a model that computes nothing notes the shape
of every pass. A step takes as long as the device with most to do. Printed are, for each size of
passes and number of devices, the tokens of that device (padding included) times the number of
devices, over the tokens that the texts have; and the tokens of the largest pass of all steps, which
decides about memory. Text lengths are those of real questions in pieces about as long as LLaMA's.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from before_after import ROOT, git, present, worktree
from before_after_cases import SCIENCEQA, pieces

from ademvl.config.optimization import OptimizationSettings
from ademvl.config.run import PromptSettings
from ademvl.data.rows import RowLayout, TokenizedExample, tokenize_examples
from ademvl.data.tokenizer import SentencePieceTokenizer
from ademvl.model.vision_language import LabelledLogits
from ademvl.tasks.scienceqa.examples import scienceqa_training_examples
from ademvl.tasks.scienceqa.reader import load_scienceqa
from ademvl.training.loop import Trainer
from ademvl.training.membership import Membership
from ademvl.training.order import StepPlan
from ademvl.training.processes import Processes

BEFORE = "905169a"
"""The last commit with passes of equal numbers of rows."""
STEP_ITEMS = 32
CASES = [(4, 1), (4, 2), (4, 4), (4, 8), (8, 1), (8, 2), (8, 4), (16, 1), (16, 2)]
"""`per_device_batch_size`, and devices."""


def main() -> None:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--before", default=BEFORE, help="commit to compare with")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--count", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.count:
        print(json.dumps([count(*case, steps=options.steps) for case in CASES]))
        return
    print(f"command: {shlex.join(['python', *sys.argv])}")
    print(f"before: {git('log', '-1', '--format=%h %s', options.before)}; after: {present()}")
    with worktree(options.before) as code:
        before, after = (_counted_by(each, options.steps) for each in (code, ROOT))
    print(f"{'':28}{'padded over real tokens':>26}   {'tokens of the largest pass':>26}")
    print(f"{'per_device_batch_size':22}{'GPUs':>6}" + f"{'before':>18}{'after':>8}" * 2)
    for (size, devices), old, new in zip(CASES, before, after, strict=True):
        print(
            f"{size:22}{devices:6}{old['padded']:18.2f}{new['padded']:8.2f}"
            f"{old['largest']:18}{new['largest']:8}"
        )


def _counted_by(code: Path, steps: int) -> Any:
    command = [sys.executable, __file__, "--count", "--steps", str(steps)]
    environment = os.environ | {"PYTHONPATH": str(code)}
    done = subprocess.run(command, env=environment, check=True, text=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def count(per_device_batch_size: int, devices: int, *, steps: int) -> dict[str, float]:
    """Count the tokens of all passes of some steps, on each of some devices."""
    rows = read_rows()
    model = Shapes()
    trainers = [
        make_trainer(model, rows, per_device_batch_size, at, devices) for at in range(devices)
    ]
    real = busiest = largest = 0
    for step in range(steps):
        shares = []
        for trainer in trainers:
            model.passes = []
            trainer.step(step)
            shares.append(sum(model.passes))
            largest = max(largest, *model.passes, 0)
        busiest += max(shares)
        real += sum(len(rows[item].ids) for item in trainers[0].plan.items_of(step))
    return {"padded": devices * busiest / real, "largest": largest}


class Shapes(torch.nn.Module):
    """Stands in for a model: notes how many tokens each pass has, and computes nothing."""

    image_tokens = 0  # features are given

    def __init__(self) -> None:
        super().__init__()
        self.passes: list[int] = []
        self.weight = torch.nn.Parameter(torch.zeros(2))

    def labelled_logits(self, batch: Any, visual: object) -> LabelledLogits:
        """Give every row of a batch one prediction."""
        rows = len(batch.item_ids)
        self.passes.append(batch.input_ids.numel())
        targets = torch.zeros(rows, dtype=torch.int64)
        return LabelledLogits(self.weight.expand(rows, 2), targets, torch.arange(rows))


class OneOfSeveral(Processes):
    """A process whose others are not there."""

    def add_up(self, tensor: torch.Tensor) -> None:
        """Leave out what the others have."""


class NoImages:
    """Gives no image."""

    def for_batch(self, batch: object, *, epoch: int = 0) -> None:
        """Return nothing."""


def make_trainer(model: Shapes, rows: Sequence[Any], size: int, rank: int, devices: int) -> Trainer:
    """Make the trainer of one device."""
    optimization = OptimizationSettings(effective_batch_size=STEP_ITEMS, per_device_batch_size=size)
    return Trainer(
        model,  # type: ignore[arg-type]
        dict(model.named_parameters()),
        torch.optim.SGD([{"params": [model.weight], "lr_factor": 1.0}], lr=0.0),
        rows=rows,
        visual_source=NoImages(),
        plan=StepPlan(len(rows), 0, optimization),
        precision="fp32",
        processes=OneOfSeveral(Membership(rank, devices, rank, devices)),
    )


@cache
def read_rows() -> list[TokenizedExample]:
    """Return the training questions as rows, without their images."""
    dataset = load_scienceqa(SCIENCEQA)
    examples = scienceqa_training_examples(dataset, PromptSettings(), "withheld")
    tokenizer = SentencePieceTokenizer(pieces([f"{each.prompt}{each.answer}" for each in examples]))
    layout = RowLayout.of(tokenizer, num_slots=0, with_prefix=True)
    return tokenize_examples(tokenizer, examples, layout, max_seq_len=512)


if __name__ == "__main__":
    main()
