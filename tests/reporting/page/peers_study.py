"""A study with peers: twelve rows with five seeds each, as many columns as there are."""

import json
import random
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from ademvl.runs.answer_speed import AnswerSpeed, speed_file, write_speed
from tests.conftest import PROJECT_ROOT
from tests.reporting.page.page_study import fusion_maps, predict
from tests.reporting.synthetic import METRICS, SyntheticStudy
from tests.tiny import make_captions, make_scienceqa

NUM_TEST, NUM_SEEDS = 150, 5


def _of_paper(method: str) -> list[dict[str, str]]:
    return [{"table": "scienceqa_test", "row": f"{method}, LLaMA-7B"}]


ONLINE = {"features": {"mode": "online"}}
PEERS: dict[str, tuple[dict[str, Any], float]] = {
    "adem": ({"label": "ADEM-VL, cached features"}, 0.97),
    "adem_online": (
        {"label": "ADEM-VL, CLIP adapters", "reported": _of_paper("ADEM-VL"), **ONLINE},
        0.96,
    ),
    "text_only": ({"label": "text-only control", "images": "withheld"}, 0.45),
    "no_adaptive_fusion": (
        {"label": "without adaptive fusion", "method": {"gamma": 0.0}},
        0.97,
    ),
    "memvp": (
        {"label": "MemVP", "method": {"name": "memvp"}, "reported": _of_paper("MemVP"), **ONLINE},
        0.93,
    ),
    "lavin": (
        {"label": "LaVIN", "method": {"name": "lavin"}, "reported": _of_paper("LaVIN"), **ONLINE},
        0.9,
    ),
    "llama_adapter": (
        {
            "label": "LLaMA-Adapter",
            "method": {"name": "llama_adapter"},
            "reported": _of_paper("LLaMA-Adapter"),
        },
        0.8,
    ),
    "llama_adapter_v2": (
        {"label": "LLaMA-Adapter V2", "method": {"name": "llama_adapter_v2"}},
        0.84,
    ),
    "llava_lora": (
        {
            "label": "LLaVA with LoRA, 256 projected tokens",
            "method": {"name": "llava_lora"},
            "reported": _of_paper("LLaVA-LoRA"),
        },
        0.91,
    ),
    "gated_xattn": (
        {"label": "gated cross-attention (Flamingo)", "method": {"name": "gated_xattn"}},
        0.88,
    ),
    "vl_adapter": ({"label": "VL-Adapter", "method": {"name": "vl_adapter"}}, 0.86),
    "lora": ({"label": "LoRA on the language model alone", "method": {"name": "lora"}}, 0.5),
}
"""Settings, and the share of questions that are answered rightly."""


def _cost(provenance: Path, draw: random.Random) -> None:
    """Give a run other costs than the others have."""
    found = json.loads(provenance.read_text())
    found["trainable_parameters"] = 100_000 * draw.randint(1, 60)
    found["operations"]["training"] = 10_000_000 * draw.randint(40, 90)
    provenance.write_text(json.dumps(found))


def peers_study(
    root: Path,
    *,
    only: Collection[str] = tuple(PEERS),
    num_seeds: int = NUM_SEEDS,
    num_test: int = NUM_TEST,
) -> SyntheticStudy:
    """Write the study, with answers to every question, captions and a fusion map."""
    peers = {name: peer for name, peer in PEERS.items() if name in only}
    runs = {
        name: {**settings, "seeds": list(range(num_seeds))} for name, (settings, _) in peers.items()
    }
    captions = {"label": "ADEM-VL, captions", "task": "coco_caption", "seeds": [0, 1, 2]}
    mini = yaml.safe_load((PROJECT_ROOT / "config.yaml").read_text(encoding="utf-8"))
    study = SyntheticStudy(
        root,
        study="peers",
        runs={**runs, "captions": captions},
        column_notes=mini["column_notes"],
    )
    questions = root / "shared/data/shapes/scienceqa"
    make_scienceqa(questions, num_test=num_test)
    make_captions(root / "shared/data/shapes/coco_caption")
    problems = json.loads((questions / "problems.json").read_text())
    test_ids = json.loads((questions / "pid_splits.json").read_text())["test"]
    for name, (_, share) in peers.items():
        for seed in range(num_seeds):
            draw = random.Random(f"{name} {seed}")
            folder = study.finish_scienceqa(name, {"AVG": (1, 2)}, seed=seed)
            _cost(folder / "provenance.json", random.Random(name))
            rows = []
            for question in test_ids:
                answer = problems[question]["answer"]
                index = answer if draw.random() < share else 1 - answer
                rows.append({"id": question, "text": "AB"[index], "predicted_index": index})
            path = predict(study, name, rows, seed=seed)
            write_speed(speed_file(path), AnswerSpeed(num_test, 0.9 + len(name) / 20))
    for seed in (0, 1, 2):
        values = (88.1 + seed, 80.2, 70.3, 60.4, 90.5, 588.6 + seed)
        study.finish_captions("captions", dict(zip(METRICS, values, strict=True)), seed=seed)
    fusion_maps(study, "adem", "What color is the square?")
    return study
