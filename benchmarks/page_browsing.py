"""Size and speed of a study's page with all test items: 4,241 questions and 5,000 captions.

    python benchmarks/page_browsing.py
    python benchmarks/page_browsing.py --images FOLDER --keep DIR
    python benchmarks/page_browsing.py --against DIR

Writes a study of made-up texts as long as those of ScienceQA and COCO, three runs on the questions
(2,017 with an image, as in the test split) and two on the captions, then its page, twice: the
second time with all thumbnails made. Chromium opens the page from the file system. Times:

- first paint: from opening to the first contentful paint;
- answers ready: from the answers' section coming near to the first twenty items, painted;
- filters: from an input to the painted list, median and slowest of REPETITIONS, and the processor
  time of the page's main thread in one of them, which other load on the machine does not change.

`--against` takes the folder that an earlier commit's call left by `--keep`, opens both pages in
turn, ROUNDS times each, and prints medians with their ratio, now over earlier: of processor times,
and of wall times where the processor's are not taken.

`--slowdown 4` slows the processor of the browser down as a phone's would be. `--images` takes
photos from a folder, over and over, in place of generated pictures.
"""

import argparse
import itertools
import json
import random
import shlex
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ademvl.config.run import RunSettings
from ademvl.config.settings_files import run_to_json, write_settings
from ademvl.config.study import Study, load_study
from ademvl.evaluation.asked import asked_now
from ademvl.evaluation.predictions import SEAL, header_file, seal_of
from ademvl.evaluation.sealed_scores import write_scores
from ademvl.reporting.page.write import write_page
from ademvl.runs.identity import evaluation_settings, identity_sha256, recorded_identity
from ademvl.runs.versions import RESULT_VERSIONS
from ademvl.storage.files import write_json, write_text
from ademvl.tasks.coco_caption.karpathy import write_references
from ademvl.tasks.scienceqa.reader import GRADES, SUBJECTS, load_scienceqa

NUM_QUESTIONS, NUM_WITH_IMAGE, NUM_CAPTIONS = 4241, 2017, 5000
REPETITIONS = 5
ROUNDS = 3
QUESTIONS = "#scienceqa-full-test"
CAPTIONS = "#coco-caption-coco-test"
_SYLLABLES = [a + b for a in "bdfgklmnprst" for b in ("a", "e", "i", "o", "u", "an", "er", "il")]
_READY = """async (section) => {
    const list = document.querySelector(`${section} .items`);
    const started = performance.now();
    const filled = new Promise((done) => {
        new MutationObserver(done).observe(list, { childList: true });
    });
    document.querySelector(section).scrollIntoView();
    await filled;
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    return performance.now() - started;
}"""
_FILTER = """async ([browser, name, value]) => {
    const field = document.querySelector(`${browser} [name="${name}"]`);
    const started = performance.now();
    field.value = value;
    field.dispatchEvent(new Event("input", { bubbles: true }));
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    return performance.now() - started;
}"""


def main() -> None:
    """Print sizes and times."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=Path, help="folder of photos to use over and over")
    parser.add_argument("--keep", type=Path, help="folder for the study and its page")
    parser.add_argument("--against", type=Path, help="folder that an earlier commit has kept")
    parser.add_argument("--slowdown", type=float, default=1.0, help="of the browser's processor")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ademvl-page-") as folder:
        root = options.keep or Path(folder)
        study = _write_study(root, _images(options.images))
        for name in ("page, thumbnails new", "page, thumbnails made"):
            started, busy = time.perf_counter(), time.process_time()
            write_page(study, study.results_dir / "report")
            wall, busy = time.perf_counter() - started, time.process_time() - busy
            print(f"{name:28}{wall:8.1f} s  {busy:8.1f} s of processor")
        page_dir = study.results_dir / "report"
        if not (page_dir / "data").is_dir():
            sys.exit(f"{page_dir}: nothing to browse, so nothing to measure")
        for name, size in _sizes(page_dir).items():
            print(f"{name:28}{size / 1e6:8.2f} MB")
        if options.against:
            _compare(page_dir, options.against / "results/full/report", options.slowdown)
        else:
            print(f"{'':28}{'median':>11}{'slowest':>11}{'processor':>11}")
            for name, *milliseconds in _browse(page_dir / "index.html", options.slowdown):
                print(f"{name:28}" + "".join(f"{number:8.0f} ms" for number in milliseconds))
        print("command: python", shlex.join(sys.argv))


def _study(root: Path) -> Study:
    return load_study(
        {
            "study": "full",
            "scale": "mini",
            "results_dir": str(root / "results"),
            "shared_dir": str(root / "shared"),
            "datasets": {"full": {"source": "easy_vqa"}, "coco": {"source": "easy_vqa"}},
            "defaults": {"dataset": "full", "features": {"mode": "cached"}},
            "runs": {
                "adem": {"label": "ADEM-VL", "seeds": [0, 1]},
                "control": {"label": "text-only control", "images": "withheld"},
                "captions": {"task": "coco_caption", "dataset": "coco", "seeds": [0, 1]},
            },
        }
    )


def _write_study(root: Path, images: Iterator[Path]) -> Study:
    study, draw = _study(root), random.Random(0)
    _write_questions(root / "shared/data/full/scienceqa", images, draw)
    ids = _write_captions(root / "shared/data/coco/coco_caption", images, draw)
    problems = load_scienceqa(root / "shared/data/full/scienceqa").split("test")
    for run in study.runs:
        folder = study.run_dir(run)
        write_settings(folder / "run.yaml", run_to_json(run))
        if run.task == "scienceqa":
            chosen = {
                problem.question_id: problem.answer_index if draw.random() < 0.85 else 0
                for problem in problems
            }
            rows = [
                {"id": i, "text": "ABCDE"[index], "predicted_index": index}
                for i, index in chosen.items()
            ]
            scores = asked_now(run).score(rows)
        else:
            texts = [_sentence(draw, 9) for _ in ids]
            rows = [
                {"id": str(i), "text": f"a picture of {text}", "caption": text}
                for i, text in zip(ids, texts, strict=True)
            ]
            entry = {"n": len(ids), "percent": 30.0, "ci_low": 29.0, "ci_high": 31.0}
            scores = {"metrics": {"BLEU-4": {**entry, "method": "made up"}}}
        _write_evaluation(folder, run, rows, scores)
    return study


def _write_evaluation(
    folder: Path, run: RunSettings, rows: Sequence[Mapping[str, Any]], scores: Mapping[str, Any]
) -> None:
    """Leave a run's folder as training and evaluation do, as far as results are read from it."""
    adapter = f"{run.name} {run.seed}"
    write_json(folder / "adapter" / "adapter.json", {"sha256": adapter})
    write_json(
        folder / "provenance.json", {"identity_sha256": identity_sha256(recorded_identity(run, {}))}
    )
    asked = asked_now(run)
    header = {
        "adapter_sha256": adapter,
        "data": dict(asked.data) if asked else {},
        "settings": evaluation_settings(run),
        "version": RESULT_VERSIONS["evaluate"],
    }
    predictions = folder / "predictions" / f"{run.task}.jsonl"
    write_text(predictions, "".join(json.dumps(row) + "\n" for row in rows))
    write_json(header_file(predictions), {**header, SEAL: seal_of(header, predictions)})
    content = {"task": run.task, "header": header, **scores}
    write_scores(folder / "scores" / f"{run.task}.json", content, predictions)


def _write_questions(root: Path, images: Iterator[Path], draw: random.Random) -> None:
    problems: dict[str, Any] = {}
    for number in range(NUM_QUESTIONS):
        has_image = number < NUM_WITH_IMAGE
        choices = [_sentence(draw, 5) for _ in range(draw.choice((2, 2, 3, 4)))]
        question_id = str(number + 1)
        problems[question_id] = {
            "question": _sentence(draw, 12) + "?",
            "choices": choices,
            "answer": draw.randrange(len(choices)),
            "hint": _sentence(draw, draw.randint(10, 90)) if number % 2 else "",
            "image": "image.jpg" if has_image else None,
            "task": "closed choice",
            "grade": draw.choice(GRADES),
            "subject": draw.choice(SUBJECTS),
            "topic": "topic",
            "category": "category",
            "skill": _sentence(draw, 6),
            "lecture": "",
            "solution": "",
            "split": "test",
        }
        if has_image:
            target = root / "images/test" / question_id / "image.jpg"
            target.parent.mkdir(parents=True)
            shutil.copyfile(next(images), target)
    write_json(root / "problems.json", problems)
    write_json(root / "pid_splits.json", {"train": [], "val": [], "test": list(problems)})


def _write_captions(root: Path, images: Iterator[Path], draw: random.Random) -> list[int]:
    rows = []
    (root / "images").mkdir(parents=True)
    for number in range(NUM_CAPTIONS):
        shutil.copyfile(next(images), root / "images" / f"{number}.jpg")
        captions = [_sentence(draw, 10) for _ in range(5)]
        rows.append({"image": f"{number}.jpg", "caption": captions})
    write_json(root / "karpathy/coco_karpathy_test.json", rows)
    write_references(root, "test")
    return list(range(NUM_CAPTIONS))


def _sentence(draw: random.Random, num_words: int) -> str:
    return " ".join(
        "".join(draw.choices(_SYLLABLES, k=draw.choice((1, 2, 2, 3)))) for _ in range(num_words)
    )


def _images(folder: Path | None) -> Iterator[Path]:
    """Yield photos of a folder, or twenty smooth generated pictures of 640 x 480, over and over."""
    if folder is not None:
        found = sorted(folder.rglob("*.jpg"))
        if not found:
            sys.exit(f"{folder}: no .jpg files")
        return itertools.cycle(found)
    target = Path(tempfile.mkdtemp())
    generator = np.random.default_rng(0)
    paths = []
    for number in range(20):
        coarse = generator.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        paths.append(target / f"{number}.jpg")
        Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC).save(paths[-1])
    return itertools.cycle(paths)


def _sizes(page_dir: Path) -> dict[str, int]:
    def total(paths: Sequence[Path]) -> int:
        return sum(path.stat().st_size for path in paths)

    return {
        "index.html": (page_dir / "index.html").stat().st_size,
        "data, questions": total(list((page_dir / "data").glob("scienceqa*"))),
        "data, captions": total(list((page_dir / "data").glob("coco*"))),
        "thumbnails (7,017)": total(list((page_dir / "images").rglob("*.webp"))),
    }


def _compare(page_dir: Path, other_dir: Path, slowdown: float) -> None:
    """Print the times of two pages, looked at in turn, and their ratio."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    for _ in range(ROUNDS):
        for place, folder in enumerate((page_dir, other_dir)):
            for name, *milliseconds in _browse(folder / "index.html", slowdown):
                found.setdefault(str(name), ([], []))[place].append(float(milliseconds[-1]))
    print(f"{'':28}{'now':>11}{'earlier':>11}{'ratio':>8}")
    for name, times in found.items():
        now, earlier = (statistics.median(one) for one in times)
        print(f"{name:28}{now:8.0f} ms{earlier:8.0f} ms{now / earlier:8.2f}")


def _browse(page_file: Path, slowdown: float) -> Iterator[tuple[str | float, ...]]:
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        sys.exit("needs chromium or google-chrome on the PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        session = page.context.new_cdp_session(page)
        session.send("Emulation.setCPUThrottlingRate", {"rate": slowdown})
        session.send("Performance.enable", {"timeDomain": "threadTicks"})

        def busy_milliseconds() -> float:
            metrics = session.send("Performance.getMetrics")["metrics"]
            return next(1000 * row["value"] for row in metrics if row["name"] == "TaskDuration")

        page.goto(page_file.resolve().as_uri(), wait_until="load")
        while page.evaluate("performance.getEntriesByType('paint').length") < 2:
            page.wait_for_timeout(20)  # waiting for a function would evaluate a string in the page
        yield (
            "first paint",
            page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"),
        )
        for kind, section in (("questions", QUESTIONS), ("captions", CAPTIONS)):
            yield f"{kind} ready", page.evaluate(_READY, section)
        rare = page.inner_text(f"{QUESTIONS} .item h4").split()[0]
        cases = (
            ("questions, letter", QUESTIONS, "text", "a"),
            ("questions, rare word", QUESTIONS, "text", rare),
            ("questions, runs disagree", QUESTIONS, "outcome", "disagree"),
            ("questions, category", QUESTIONS, "context", "IMG"),
            ("captions, letter", CAPTIONS, "text", "a"),
            ("captions, runs disagree", CAPTIONS, "outcome", "disagree"),
            ("captions, order", CAPTIONS, "order", "overlap"),
        )
        for name, section, field, value in cases:
            times, busy = [], []
            for _ in range(REPETITIONS):
                before = busy_milliseconds()
                times.append(page.evaluate(_FILTER, [section, field, value]))
                busy.append(busy_milliseconds() - before)
                page.evaluate(f"document.querySelector('{section} form').reset()")
                page.wait_for_timeout(50)
            yield name, statistics.median(times), max(times), statistics.median(busy)
        browser.close()


if __name__ == "__main__":
    main()
