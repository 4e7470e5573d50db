"""A study whose runs have answered real questions and described images, for tests of the page."""

import json
from pathlib import Path
from typing import Any

from ademvl.config.settings_files import read_run
from ademvl.evaluation.asked import asked_of
from ademvl.evaluation.sealed_scores import write_scores
from ademvl.reporting.page.write import write_page
from ademvl.tasks.coco_caption.karpathy import write_references
from tests.conftest import PROJECT_ROOT
from tests.reporting.synthetic import METRICS, SyntheticStudy, header_of, write_predictions
from tests.tiny import make_captions, make_scienceqa

REPORTED_DIR = PROJECT_ROOT / "workflow" / "reported"
HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script></script> \u202eevil {{ 7 * 7 }}'
NUM_TEST = 45
QUESTIONS = "#scienceqa-shapes-test"
CAPTIONS = "#coco-caption-shapes-test"
"""Sections of the page with what runs made of each item."""


def answered_study(root: Path, *, text: str = "", **overrides: Any) -> SyntheticStudy:
    """Write a study of which everything is finished.

    Every third question is text-only. Of every run with images, question i (from 0) is wrong when
    i % 5 == 0; the control is wrong when i % 2 == 0, and gives no choice when i % 10 == 0.

    Args:
        root: gets `results` and `shared`.
        text: stands in every text that comes from data, settings or a model.
        overrides: of the study's settings.
    """
    study = SyntheticStudy(root, **overrides)
    for run in study.raw["runs"].values():
        run["label"] += text
    questions = root / "shared/data/shapes/scienceqa"
    make_scienceqa(questions, num_test=NUM_TEST)
    problems = json.loads((questions / "problems.json").read_text())
    for problem in problems.values():
        for key in ("question", "skill", "hint"):
            problem[key] += text if problem[key] else ""
        problem["choices"] = [choice + text for choice in problem["choices"]]
    (questions / "problems.json").write_text(json.dumps(problems))
    test_ids = json.loads((questions / "pid_splits.json").read_text())["test"]
    answers = {i: problems[i]["answer"] for i in test_ids}
    _captions(root / "shared/data/shapes/coco_caption", text)

    first = {"NAT": (13, 15), "IMG": (24, 30), "AVG": (36, 45)}
    second = {"NAT": (12, 15), "IMG": (23, 30), "AVG": (35, 45)}
    study.finish_scienceqa("adem", first, seed=0)
    study.finish_scienceqa("adem", second, seed=1)
    study.finish_scienceqa("text_only", {"NAT": (6, 15), "IMG": (9, 30), "AVG": (22, 45)})
    study.finish_captions("captions", dict(zip(METRICS, (60, 70, 80, 90, 50, 110), strict=True)))
    for seed in (0, 1):
        chosen = [answer ^ (place % 5 == 0) for place, answer in enumerate(answers.values())]
        predict(study, "adem", _rows(test_ids, chosen, text), seed=seed)
    control = [
        -1 if place % 10 == 0 else answer ^ (place % 2 == 0)
        for place, answer in enumerate(answers.values())
    ]
    predict(study, "text_only", _rows(test_ids, control, text))
    described = [
        {"id": str(i), "text": f"a picture of a red square{text}", "caption": f"a red square{text}"}
        for i in range(6)
    ]
    predict(study, "captions", described)
    fusion_maps(study, "adem", f"What color?{text}", word=f"color{text}")
    return study


def _captions(root: Path, text: str) -> None:
    make_captions(root)
    rows = [
        {"image": f"{number}.png", "caption": [f"a square{text}", f"square {number}"]}
        for number in range(6)
    ]
    (root / "karpathy/coco_karpathy_test.json").write_text(json.dumps(rows))
    write_references(root, "test")


def _rows(ids: list[str], chosen: list[int], text: str) -> list[dict[str, Any]]:
    return [
        {"id": i, "text": ("AB"[index] if index >= 0 else "?") + text, "predicted_index": index}
        for i, index in zip(ids, chosen, strict=True)
    ]


def predict(study: SyntheticStudy, run: str, rows: list[dict[str, Any]], *, seed: int = 0) -> Path:
    """Write a run's predictions; scores of questions are those that they give."""
    folder = study.run_dir(run, seed)
    settings = read_run(folder)
    task, header = settings.task, header_of(settings)
    path = write_predictions(folder, task, rows, header)
    scores_path = folder / "scores" / f"{task}.json"
    scores = {**json.loads(scores_path.read_text()), "header": header}
    if task == "scienceqa":
        scores |= asked_of(settings).score(rows)
    write_scores(scores_path, scores, path)
    return path


def fusion_maps(study: SyntheticStudy, run: str, question: str, *, word: str = "color") -> None:
    """Write a fusion map of two layers and scales, with a real picture."""
    from PIL import Image

    folder = study.run_dir(run) / "fusion_maps"
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (40, 30), (90, 90, 90)).save(folder / "item_1.png")
    Image.new("RGB", (8, 8), (0, 0, 200)).save(folder / "seen.png")
    layer = {"kept_fraction": 0.75, "kept": "0111", "scores": "0.1 0.2 0.3 0.4"}
    coarse = {"kept_fraction": 1.0, "kept": "1", "scores": "0.5"}
    scales = [
        {"scale": 4, "grid": 2, "layers": [layer, layer]},
        {"scale": 1, "grid": 1, "layers": [coarse, coarse]},
    ]
    item = {
        "picture": "item_1.png",
        "image": str(folder / "seen.png"),
        "question_id": "15",
        "question": question,
        "answer": "red",
        "words": [{"word": word, "position": 3, "scales": scales}],
    }
    (folder / "fusion_maps.json").write_text(json.dumps({"gamma": 0.1, "items": [item]}))


def make_page(study: SyntheticStudy) -> Path:
    """Write the page; return its file."""
    results = study.study.results_dir
    write_page(study.study, results / "report")
    return results / "report" / "index.html"
