"""How many questions of a run's own test split are answered right when `ademvl predict` is asked.

    python benchmarks/predict_questions.py results/mini/runs/adem/seed0
    python benchmarks/predict_questions.py results/mini/runs/adem/seed* --questions 200 --seed 1

Runs are those of the mini study, or of another one on easy-VQA. In each form that docs/predict.md
names (two, three and four choices with an image, a hint in place of one, captions) as many items
are drawn as asked for, or all where there are fewer, and put to `ademvl predict --jsonl`. A caption
is right where it names the colour and the shape of its references. The exit code is 1 where in any
form fewer than nine in ten are right, so 54 of 60.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ademvl.config.run import RunSettings
from ademvl.config.settings_files import read_run
from ademvl.data.easy_vqa import COLORS, SHAPES, mentioned
from ademvl.tasks.coco_caption.reader import load_caption_images
from ademvl.tasks.scienceqa.reader import load_scienceqa

SPLIT = "test"
WANTED = 0.9
NUMBERS = {2: "two choices", 3: "three choices", 4: "four choices"}


@dataclass(frozen=True)
class Asked:
    """A request with what its answer has to name.

    Attributes:
        request: a line of the file.
        right: the choice, or the words of a caption.
    """

    request: Mapping[str, Any]
    right: Sequence[str]


def main() -> int:
    """Ask every run in every form; print a line each and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="directories of trained runs")
    parser.add_argument("--questions", type=int, default=60, help="in each form (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (%(default)s)")
    options = parser.parse_args()
    print(f"{'run':36} {'form':14} {'right':>12} {'no answer':>10} {'warnings':>9}")
    is_enough = True
    for run_dir in options.runs:
        for form, items in _items_by_form(read_run(run_dir)).items():
            drawn = random.Random(options.seed).sample(items, min(options.questions, len(items)))
            answers = _predict(run_dir, drawn)
            right = sum(map(_is_right, drawn, answers))
            unanswered = sum(answer["answer"] is None for answer in answers)
            warned = sum(bool(answer["warnings"]) for answer in answers)
            count = f"{right} of {len(drawn)}"
            print(f"{run_dir!s:36} {form:14} {count:>12} {unanswered:10} {warned:9}", flush=True)
            is_enough &= right >= WANTED * len(drawn)
    return 0 if is_enough else 1


def _items_by_form(run: RunSettings) -> dict[str, list[Asked]]:
    """Return all items of the test split, by the form in which they are asked."""
    root = Path(run.data_dir)
    if run.task == "coco_caption":
        return {
            "captions": [
                Asked(
                    {"image": str(item.image.resolve()), "caption": True},
                    [str(mentioned(item.references[0], words)) for words in (COLORS, SHAPES)],
                )
                for item in load_caption_images(root, SPLIT)
            ]
        }
    dataset = load_scienceqa(root)
    forms: dict[str, list[Asked]] = {form: [] for form in (*NUMBERS.values(), "a hint")}
    for problem in dataset.split(SPLIT):
        request = {"question": problem.question, "choices": problem.choices, "hint": problem.hint}
        image = dataset.image_path(problem)
        form = NUMBERS[len(problem.choices)] if image else "a hint"
        if image and run.images == "withheld":
            continue
        asked = request | ({"image": str(image.resolve())} if image else {})
        forms[form].append(Asked(asked, [problem.choices[problem.answer_index]]))
    return {form: items for form, items in forms.items() if items}


def _predict(run_dir: Path, items: Sequence[Asked]) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="ademvl-benchmark-") as folder:
        requests = Path(folder) / "requests.jsonl"
        lines = [json.dumps(item.request) for item in items]
        requests.write_text("\n".join(lines), encoding="utf-8")
        command = [sys.executable, "-m", "ademvl", "predict", str(run_dir)]
        finished = subprocess.run(
            [*command, "--jsonl", str(requests)], capture_output=True, text=True, check=False
        )
    if finished.returncode:
        sys.exit(finished.stderr)
    return [json.loads(line) for line in finished.stdout.splitlines()]


def _is_right(item: Asked, answer: Mapping[str, Any]) -> bool:
    if "choices" in item.request:
        return [answer["answer"]] == list(item.right)
    found = [mentioned(answer["answer"], words) for words in (COLORS, SHAPES)]
    return found == list(item.right)


if __name__ == "__main__":
    sys.exit(main())
