"""How much faster training steps and evaluation are than plain implementations, within one run.

    python benchmarks/against_plain.py                              # all cases
    python benchmarks/against_plain.py adem_medium_online --threads 1 --golden ../shared

The plain side is benchmarks/plain, in the manner of the authors' code; with `--golden` it is first
compared with what their programs computed. Both sides have the same weights, rows, pictures and
optimiser, the same threads and `fast_cpu`, and take turns in one process. Loss and gradient norm of
the first step must agree to 1e-5, and all answers, or the exit code is 1. Times are processor
seconds, medians over the turns; a ratio above 1 says how many times faster the package is.
"""

import argparse
import math
import shlex
import statistics
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from before_after_cases import answering, make_evaluation, make_trainer, sizes_of
from plain.methods import PlainAdem, PlainMemvp, PlainMethod
from plain.models import Llama, Tower
from torch import Tensor

from ademvl.config.method import ClipAdapterSettings, MethodSettings
from ademvl.data.collate import Batch, collate
from ademvl.machine.cpu_kernels import fast_cpu
from ademvl.methods.adem.settings import AdemSettings
from ademvl.methods.memvp.settings import MemvpSettings
from ademvl.released import memvp_names, reference_names

SAME = 1e-5  # relative: the sixth digit
GOLDEN_CHECK = Path(__file__).parent / "plain" / "golden.py"
Figures = Sequence[float]
Work = Callable[[], Figures]
"""Does the work once, and returns figures that both sides must agree on at first."""

PLAIN_BATCH = 64  # as the authors of LaVIN and MemVP evaluate
NO_DROPOUT = ClipAdapterSettings(dropout=0.0)
METHODS: Mapping[
    str, tuple[MethodSettings, type[PlainMethod], Callable[..., Mapping[str, Tensor]]]
] = {
    "adem": (AdemSettings(clip_adapter=NO_DROPOUT), PlainAdem, reference_names.to_reference),
    "memvp": (
        MemvpSettings(clip_adapter=NO_DROPOUT, dropout=0.0),
        PlainMemvp,
        memvp_names.to_released,
    ),
}
"""Settings, the plain method, and what names its tensors."""


class PlainStep:
    """Training steps of a plain method from the values that a trainer has."""

    def __init__(self, name: str, trainer: Any, images: Tensor | None, sizes: Any) -> None:
        _, kind, renamed = METHODS[name]
        model = trainer.model
        self._leaves = {
            key: tensor.clone().requires_grad_()
            for key, tensor in renamed(model.adapter_state_dict()).items()
        }
        llm = Llama(
            model.llm.state_dict(), heads=sizes.llm.heads, eps=model.llm.config.rms_norm_eps
        )
        heads = sizes.vision.width // sizes.vision.head_width
        tower = Tower(model.tower.visual.state_dict(), heads=heads) if model.tower else None
        self._method = kind(llm, tower, self._leaves)
        self._batch: Batch = collate(
            [trainer.rows[item] for item in trainer.plan.items_of(0)], trim_after_labels=True
        )
        self._images = self._of_all_rows(images)
        options = trainer.optimization
        groups = [
            [leaf for leaf in self._leaves.values() if (leaf.ndim > 1) == is_decayed]
            for is_decayed in (True, False)
        ]
        self._optimizer = torch.optim.AdamW(
            [
                {"params": groups[0], "weight_decay": options.weight_decay},
                {"params": groups[1], "weight_decay": 0.0},
            ],
            lr=1e-4,
            betas=(0.9, 0.95),
        )

    def _of_all_rows(self, images: Tensor | None) -> Tensor:
        """Give rows without a picture a black one."""
        assert images is not None
        everything = images.new_zeros(len(self._batch.has_image), *images.shape[1:]).float()
        everything[self._batch.has_image] = images.float()
        return everything

    def __call__(self) -> Figures:
        """Do a step; return its loss and gradient norm."""
        batch = self._batch
        rows = (
            batch.input_ids.long(),
            batch.labels.long(),
            batch.slot_start.tolist(),
            batch.has_image,
        )
        if self._method.tower is None:
            loss = self._method.loss_of_features(*rows, self._images)
        else:
            loss = self._method.loss(*rows, self._images)
        self._optimizer.zero_grad()
        loss.backward()
        gradients = [leaf.grad for leaf in self._leaves.values() if leaf.grad is not None]
        norm = torch.stack([gradient.double().norm() for gradient in gradients]).norm()
        self._optimizer.step()
        return [loss.item(), norm.item()]


def step(
    name: str, llm: str, *, online: bool = True, num_images: int = 4, text: int = 128
) -> Callable[[], tuple[Work, Work]]:
    """Make a case of training steps on 4 rows."""

    def prepare() -> tuple[Work, Work]:
        sizes = sizes_of(llm, online=online, method=METHODS[name][0])
        trainer, images = make_trainer(sizes, num_images=num_images, text=text)
        plain = PlainStep(name, trainer, images, sizes)
        steps = iter(range(1000))

        def ours() -> Figures:
            found = trainer.step(next(steps))
            return [float(found.loss), float(found.grad_norm)]

        return ours, plain

    return prepare


def evaluation(*, layers: int, width: int) -> Callable[[], tuple[Work, Work]]:
    """Make a case of answering 240 ScienceQA questions, in plain batches in the file's order."""

    def prepare() -> tuple[Work, Work]:
        asked = make_evaluation(layers=layers, width=width)
        state = asked.model.llm.state_dict()
        eps = asked.model.llm.config.rms_norm_eps
        trained = reference_names.to_reference(asked.model.adapter_state_dict())
        plain = PlainAdem(Llama(state, heads=width // 64, eps=eps), None, trained)
        features = asked.features.float().expand(PLAIN_BATCH, -1, -1)

        def in_order() -> Figures:
            tokens: list[int] = []
            for first in range(0, len(asked.rows), PLAIN_BATCH):
                rows = asked.rows[first : first + PLAIN_BATCH]
                width = max(len(row.ids) for row in rows)
                ids = torch.zeros(len(rows), width, dtype=torch.long)
                is_token = torch.zeros(len(rows), width, dtype=torch.bool)
                for place, row in enumerate(rows):
                    ids[place, width - len(row.ids) :] = torch.from_numpy(row.ids)
                    is_token[place, width - len(row.ids) :] = True
                slots = [
                    row.slot_start + width - len(row.ids) if row.slot_start >= 0 else -1
                    for row in rows
                ]
                shown = torch.tensor([row.image is not None for row in rows])
                found = plain.answers(ids, is_token, slots, shown, features[: len(rows)])
                tokens += found.tolist()
            return [zlib.crc32(asked.tokenizer.decode([token]).encode()) for token in tokens]

        return answering(asked), in_order

    return prepare


CASES: Mapping[str, Callable[[], tuple[Work, Work]]] = {
    "adem_tiny_online": step("adem", "tiny", text=256),
    "adem_medium_online": step("adem", "medium"),
    "adem_medium_online_2_of_4": step("adem", "medium", num_images=2),
    "adem_medium_cached": step("adem", "medium", online=False),
    "memvp_medium_online": step("memvp", "medium"),
    "memvp_medium_online_2_of_4": step("memvp", "medium", num_images=2),
    "evaluation_2_layers_of_256": evaluation(layers=2, width=256),
    "evaluation_4_layers_of_512": evaluation(layers=4, width=512),
}


def main() -> None:
    """Measure the cases that are asked for, and print a line for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "cases", nargs="*", choices=[*CASES, []], metavar="CASE", help="all if none"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument(
        "--golden", type=Path, help="folder of recorded numbers to compare with first"
    )
    options = parser.parse_args()
    print(f"command: {shlex.join(['python', *sys.argv])}")
    if options.golden:
        subprocess.run([sys.executable, GOLDEN_CHECK, options.golden], check=True)
    torch.set_num_threads(options.threads)
    print(f"{'case':30} {'plain s':>9} {'ours s':>9} {'ratio':>6}  first figures")
    with fast_cpu(torch.device("cpu")):
        are_same = [measure(case, turns=options.turns) for case in options.cases or CASES]
    sys.exit(0 if all(are_same) else 1)


def measure(case: str, *, turns: int) -> bool:
    """Let both sides take turns, print a line, and return whether they agree."""
    sides = CASES[case]()
    firsts = [work() for work in sides]  # warms up, too
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(turns):
        for work, seconds in zip(sides, taken, strict=True):
            started = time.process_time()
            work()
            seconds.append(time.process_time() - started)
    ours, plain = map(statistics.median, taken)
    same = all(
        math.isclose(one, other, rel_tol=SAME, abs_tol=SAME)
        for one, other in zip(*firsts, strict=True)
    )
    told = "same" if same else f"DIFFER: {firsts}"
    print(f"{case:30} {plain:9.3f} {ours:9.3f} {plain / ours:6.2f}  {told}", flush=True)
    return same


if __name__ == "__main__":
    main()
