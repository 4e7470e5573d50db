"""What one item costs as there are more of them: images, questions and jobs.

    python benchmarks/growth.py
    python benchmarks/growth.py questions --repeats 5 --folder /dev/shm

Times are processor seconds of one process, medians over repeats. Everything is made up in a
temporary folder; models have no part in it:

- images: files of a few bytes are hashed; a feature cache is filled with features of one number,
  which hashes them, too, claims them and writes shards; then it is opened again;
- questions: ScienceQA is read, verified with its images and tokenized, answers are kept and scored;
- jobs: a study is read and planned by `ademvl plan`, and by Snakemake's rules, what each job needs.

An item's cost may grow as the logarithm of the number of items does, as sorting makes it, that of
an image not even so. Where it grows by 30 % more, the benchmark ends with exit code 1.
"""

import argparse
import gc
import json
import math
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = 1.3
"""Beyond the logarithm: caches of the processor and collections of garbage."""
SMALLEST = 0.5
"""Seconds: the least time that is spent on a size, making it included."""

WARM_UP = 16

Steps = Mapping[str, Callable[[], object]]
Prepare = Callable[[Path, int], Steps]
"""Makes a number of items in a folder, and returns what is timed, in this order."""


def main() -> None:
    """Measure the growth of what is asked for, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "kinds", nargs="*", choices=[*KINDS, []], metavar="KIND", help="all if none"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to work; the system's if not given")
    options = parser.parse_args()
    print(f"command: {shlex.join(['python', *sys.argv])}")
    print(f"{'step':34} {'microseconds an item':>42}   {'growth':>7} {'allowed':>7}")
    has_grown = False
    for kind in options.kinds or KINDS:
        prepare, sizes = KINDS[kind]
        measure(prepare, WARM_UP, 1, options.folder)  # imports
        print(f"{kind:34} {''.join(f'{size:>11,}' for size in sizes)}")
        costs = [measure(prepare, size, options.repeats, options.folder) for size in sizes]
        allowed = ALLOWED
        if kind != "images":
            allowed *= math.log(sizes[-1]) / math.log(sizes[0])
        for step, first in costs[0].items():
            growth = costs[-1][step] / first
            line = "".join(f"{cost[step] * 1e6:11.2f}" for cost in costs)
            note = "  TOO MUCH" if growth > allowed else ""
            print(f"  {step:32} {line}   {growth:7.2f} {allowed:7.2f}{note}", flush=True)
            has_grown |= growth > allowed
    sys.exit(has_grown)


def measure(prepare: Prepare, size: int, repeats: int, place: Path | None) -> dict[str, float]:
    """Return the processor seconds an item of each step, medians over repeats."""
    found: dict[str, list[float]] = {}
    started = time.process_time()
    while time.process_time() - started < SMALLEST or len(next(iter(found.values()))) < repeats:
        with tempfile.TemporaryDirectory(prefix="ademvl-growth-", dir=place) as folder:
            for step, work in prepare(Path(folder), size).items():
                gc.collect()  # else a step pays for what those before it left
                began = time.process_time()
                work()
                found.setdefault(step, []).append((time.process_time() - began) / size)
    return {step: statistics.median(costs) for step, costs in found.items()}


def _images(folder: Path, size: int) -> Steps:
    from ademvl.vision.features.cache import SHARD_IMAGES, FeatureCache
    from ademvl.vision.features.image_digests import digest_images
    from ademvl.vision.features.namespace import FeatureKey

    files = folder / "images"
    files.mkdir()
    images = [files / f"{number}.png" for number in range(size)]
    for number, path in enumerate(images):
        path.write_bytes(b"%d" % number)
    key = FeatureKey("growth", "growth", "fp32", "penultimate")
    features = torch.zeros(SHARD_IMAGES, 1, 1)

    def fill() -> None:
        FeatureCache(folder / "cache", key).ensure(
            images,
            lambda paths: features[: len(paths)],
            batch_size=SHARD_IMAGES,
            progress=False,
        )

    def reopen() -> None:
        FeatureCache(folder / "cache", key).open(images).close()

    return {
        "hash the images": lambda: digest_images(images, progress=False),
        "fill the feature cache": fill,
        "open it": reopen,
    }


def _questions(folder: Path, size: int) -> Steps:
    from ademvl.config.dataset import DatasetSettings
    from ademvl.config.run import PromptSettings
    from ademvl.data.batching import batches_by_length
    from ademvl.data.rows import RowLayout, TokenizedExample, tokenize_examples
    from ademvl.data.tokenizer import load_tokenizer
    from ademvl.evaluation.predictions import PredictionLog
    from ademvl.llm.source import MINI_LLM_DIR
    from ademvl.storage.files import write_json
    from ademvl.tasks.scienceqa.examples import scienceqa_evaluation_examples
    from ademvl.tasks.scienceqa.reader import ScienceQA, load_scienceqa
    from ademvl.tasks.scienceqa.scores import score_scienceqa
    from ademvl.tasks.verification import verify_dataset

    root = folder / "scienceqa"
    _write_scienceqa(root, size)
    settings = DatasetSettings(source="scienceqa", subset=True)
    write_json(folder / "manifest.json", {"settings": settings.to_plain(), "sha256": {}})
    tokenizer = load_tokenizer(MINI_LLM_DIR)
    read: list[ScienceQA] = []
    rows: list[TokenizedExample] = []

    def tokenize() -> None:
        prompts = PromptSettings(max_seq_len=512)
        examples = scienceqa_evaluation_examples(read[0], "test", prompts, "shown")
        rows.extend(
            tokenize_examples(
                tokenizer,
                examples,
                RowLayout.of(tokenizer, num_slots=1, with_prefix=True),
                max_seq_len=512,
            )
        )

    def answer() -> None:
        log = PredictionLog(folder, "scienceqa", header={}, item_ids=[row.item_id for row in rows])
        batches = batches_by_length([len(row.ids) for row in rows], max_rows=64)
        with log.filling(batches) as filling:
            for items in filling.missing:
                filling.append([{"id": rows[i].item_id, "predicted_index": 0} for i in items])

    def score() -> None:
        score_scienceqa(read[0].split("test"), {row.item_id: 0 for row in rows})

    return {
        "read ScienceQA": lambda: read.append(load_scienceqa(root)),
        "verify it": lambda: verify_dataset(folder),
        "tokenize": tokenize,
        "keep answers": answer,
        "score": score,
    }


def _write_scienceqa(root: Path, size: int) -> None:
    """Write test questions, of which every second one has an image of its own."""
    from PIL import Image

    problems = {}
    for number in range(size):
        has_image = number % 2 == 0
        problems[str(number)] = {
            "question": f"Which of these is number {number}?",
            "choices": [f"the number {number + other}" for other in range(2 + number % 3)],
            "answer": 0,
            "hint": f"Numbers are counted from {number % 97}." * (number % 5),
            "image": "image.png" if has_image else None,
            "task": "closed choice",
            "grade": f"grade{1 + number % 12}",
            "subject": ("natural science", "social science", "language science")[number % 3],
            "topic": "counting",
            "category": "numbers",
            "skill": "Count",
            "lecture": "",
            "solution": "",
            "split": "test",
        }
        if has_image:
            place = root / "images" / "test" / str(number)
            place.mkdir(parents=True)
            color = (number % 256, number // 256 % 256, number // 65536)
            Image.new("RGB", (8, 8), color).save(place / "image.png")
    root.mkdir(exist_ok=True)
    (root / "problems.json").write_text(json.dumps(problems), encoding="utf-8")
    splits = {"train": [], "val": [], "test": list(problems)}
    (root / "pid_splits.json").write_text(json.dumps(splits), encoding="utf-8")


def _jobs(folder: Path, size: int) -> Steps:
    import yaml

    from ademvl.config.study import Study, load_study
    from ademvl.planning.plans import Target
    from ademvl.planning.study_plan import plan_study
    from ademvl.workflow.notices import notice_changes
    from ademvl.workflow.plan import WorkflowPlan

    smoke = yaml.safe_load((ROOT / "workflow/studies/smoke.yaml").read_text(encoding="utf-8"))
    runs = {f"run{n}": {"method": {"beta": 0.1 + n / 10_000}} for n in range(size)}
    study_file = folder / "study.yaml"
    places = {"results_dir": str(folder / "results"), "shared_dir": str(folder / "shared")}
    content = {key: smoke[key] for key in ("study", "scale", "datasets", "defaults")}
    study_file.write_text(yaml.safe_dump({**content, **places, "runs": runs}), encoding="utf-8")
    read: list[Study] = []
    return {
        "read the study": lambda: read.append(load_study(study_file)),
        "ademvl plan": lambda: plan_study(read[0], Target()),
        "the workflow's inputs and params": lambda: _ask_for_all_jobs(WorkflowPlan(read[0])),
        "its look at present results": lambda: notice_changes(read[0]),
    }


def _ask_for_all_jobs(plan: Any) -> None:
    """Ask what Snakemake asks for the jobs of every run, and for those of the study once."""
    asked = plan.resources
    for run in plan.study.runs:
        job = SimpleNamespace(run=run.name, seed=run.seed)
        for ask in (plan.run_json, plan.run_data, plan.run_backbones, plan.features.of_run):
            ask(job)
        for ask in (plan.run_adapter, asked.training_gpus, asked.training_threads):
            ask(job)
        for verb in ("features", "train", "evaluate"):
            plan.relevant_json(SimpleNamespace(run=run.name, seed=run.seed, verb=verb))
        asked.model_mem_mb(job, attempt=1)
    plan.study_json(None)
    for ask in (plan.run_files, plan.adapters, plan.scores, plan.tables, plan.figures):
        ask()
    for ask in (plan.features.reports, plan.data_ready):
        ask()


KINDS: Mapping[str, tuple[Prepare, Sequence[int]]] = {
    "images": (_images, (4_096, 16_384, 65_536, 123_287)),
    "questions": (_questions, (1_000, 4_241, 12_726, 21_208)),
    "jobs": (_jobs, (50, 100, 200, 400)),
}


if __name__ == "__main__":
    main()
