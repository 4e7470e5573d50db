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
import subprocess
import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from before_after_cases import answering, make_evaluation, make_trainer, sizes_of, stepping
from plain.methods import PlainAdem
from plain.models import Llama
from plain_steps import METHODS, Figures, PlainStep, Work, padded_in_front
from taking_turns import take_turns

from ademvl.machine.cpu_kernels import fast_cpu
from ademvl.released import reference_names

SAME = 1e-5  # relative: the sixth digit
GOLDEN_CHECK = Path(__file__).parent / "plain" / "golden.py"


def step(
    name: str, llm: str, *, online: bool = True, num_images: int = 4, text: int = 128
) -> Callable[[], tuple[Work, Work]]:
    """Make a case of training steps on 4 rows."""

    def prepare() -> tuple[Work, Work]:
        sizes = sizes_of(llm, online=online, method=METHODS[name][0])
        trainer, images = make_trainer(sizes, num_images=num_images, text=text)
        return stepping(trainer), PlainStep(name, trainer, images, sizes)

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
                padded = padded_in_front(rows, torch.device("cpu"))
                tokens += plain.answers(*padded, features[: len(rows)]).tolist()
            return [zlib.crc32(asked.tokenizer.decode([token]).encode()) for token in tokens]

        return answering(asked), in_order

    return prepare


PLAIN_BATCH = 64  # as the authors of LaVIN and MemVP evaluate

CASES: Mapping[str, Callable[[], tuple[Work, Work]]] = {
    "adem_tiny_online": step("adem", "tiny", text=256),
    "adem_medium_online": step("adem", "medium"),
    "adem_medium_online_2_of_4": step("adem", "medium", num_images=2),
    "adem_medium_cached": step("adem", "medium", online=False),
    "memvp_medium_online": step("memvp", "medium"),
    "memvp_medium_online_2_of_4": step("memvp", "medium", num_images=2),
    "lavin_medium_online": step("lavin, 6 blocks", "medium"),
    "lavin_medium_online_2_of_4": step("lavin, 6 blocks", "medium", num_images=2),
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
    seconds = take_turns(dict(zip(("ours", "plain"), sides, strict=True)), turns=turns)
    ours, plain = seconds["ours"], seconds["plain"]
    same = all(
        math.isclose(one, other, rel_tol=SAME, abs_tol=SAME)
        for one, other in zip(*firsts, strict=True)
    )
    told = "same" if same else f"DIFFER: {firsts}"
    print(f"{case:30} {plain:9.3f} {ours:9.3f} {plain / ours:6.2f}  {told}", flush=True)
    return same


if __name__ == "__main__":
    main()
