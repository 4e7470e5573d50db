"""Protects the studies at the paper's scale from end to end: each of their runs trains and is
evaluated with its own method and prompts, on tiny backbones and data in place of the real ones.

Only sizes are changed, of methods too, where the tiny backbones have fewer blocks or layers: the
grid of the tower is 16 x 16, as the paper's, and the window 512 tokens.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ademvl.config.optimization import OptimizationSettings
from ademvl.config.run import RELEASED, TRAINED, RunSettings
from ademvl.config.settings_files import run_to_json, write_settings
from ademvl.config.study import Study, load_study
from ademvl.evaluation.run import evaluate_run
from ademvl.methods.gated_xattn.settings import PerceiverSettings
from ademvl.training.run import train_run
from tests import tiny
from tests.conftest import PROJECT_ROOT

TOWER = "tiny-vit-16x16"
LLMS = ("llama_7b", "llama_13b", "llama2_7b", "phi_2", "qwen3_0_6b")
"""In place of each a tiny Llama; other families and towers: `test_other_backbones.py`."""
SMALL: Any = {
    "epochs": 1.0,
    "warmup_epochs": 0.5,
    "effective_batch_size": 4,
    "per_device_batch_size": 4,
}


def make_tower(folder: Path) -> Path:
    import open_clip
    import torch

    folder.mkdir()
    vision = {"image_size": 32, "layers": 3, "width": 16, "head_width": 8, "patch_size": 2}
    text = {"context_length": 8, "vocab_size": 16, "width": 16, "heads": 2, "layers": 1}
    config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    (folder / f"{TOWER}.json").write_text(json.dumps(config), encoding="utf-8")
    open_clip.add_model_config(folder / f"{TOWER}.json")
    weights = folder / "ViT-L-14.pt"
    torch.save(open_clip.create_model(TOWER).state_dict(), weights)
    return weights


def make_captions(root: Path) -> None:
    """Captions of the train split, and one image with references in each of the others."""
    tiny.make_captions(root)
    for split in ("val", "test"):
        truth = {
            "images": [{"id": 0}],
            "annotations": [{"id": 0, "image_id": 0, "caption": "a red square"}],
        }
        rows = [{"image": "0.png", "caption": ["a red square"]}]
        for name, content in ((split, rows), (f"{split}_gt", truth)):
            path = root / "karpathy" / f"coco_karpathy_{name}.json"
            path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture(scope="module", params=["all-paper", "peers-7b", "peers-13b", "improvements-7b"])
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("studies")
    data = folder / "shared" / "data"
    scienceqa = tiny.make_scienceqa(data / "scienceqa" / "scienceqa", num_val=4)
    captions = {"captions": {"1": "a square", "15": "a picture"}}
    (scienceqa / "captions.json").write_text(json.dumps(captions), encoding="utf-8")
    make_captions(data / "coco" / "coco_caption")
    tiny.make_instructions(data / "lavin" / "instruction")
    tiny.make_mme(data / "mme" / "mme")
    weights = {
        name: {"existing": str(tiny.make_llm(folder / name, seed=seed))}
        for seed, name in enumerate(LLMS)
    }
    weights["clip_vit_l14"] = {"existing": str(make_tower(folder / "tower"))}
    return load_study(
        {
            "study": "tiny",
            "include": [str(PROJECT_ROOT / "workflow" / "studies" / f"{request.param}.yaml")],
            "results_dir": str(folder / "results"),
            "shared_dir": str(folder / "shared"),
            "backbones": weights,
            "defaults": {
                "seeds": [0],
                "backbones": {"tower": TOWER, "precision": "fp32"},
                "evaluation": {"batch_size": 4, "max_new_tokens": 3},
            },
        }
    )


SMALL_METHODS: Mapping[str, Mapping[str, Any]] = {
    "lavin": {"cls_blocks": (0, 1, 2)},
    "llama_adapter": {"cls_blocks": (0, 1, 2), "first_layer": 1},
    "llama_adapter_v2": {"visual_width": 16, "visual_blocks": 1, "visual_heads": 2},
    "gated_xattn": {"every": 1, "perceiver": PerceiverSettings(num_latents=4, layers=1)},
}
"""What of a method has to fit the tiny backbones, or would take long."""


def in_small(run: RunSettings) -> RunSettings:
    """Return a run that takes a few steps, all else unchanged but sizes."""
    group_size = min(run.optimization.loss_group_size, SMALL["effective_batch_size"])
    optimization: OptimizationSettings = dataclasses.replace(
        run.optimization, **SMALL, loss_group_size=group_size
    )
    method = dataclasses.replace(run.method, **SMALL_METHODS.get(run.method.name, {}))
    return dataclasses.replace(run, optimization=optimization, method=method)


@pytest.mark.slow
@pytest.mark.java
def test_every_run_trains_and_evaluates(study: Study) -> None:
    is_here = {"", TOWER}  # a whole system has no tower
    runs = [
        run
        for run in study.runs
        if run.adapter != RELEASED and run.seed == 0 and run.backbones.tower in is_here
    ]
    for run in sorted(runs, key=lambda run: run.adapter != TRAINED):
        run_dir = study.run_dir(run)
        write_settings(run_dir / "run.yaml", run_to_json(in_small(run)))
        assert train_run(run_dir, progress=False) == 0, run.name
        evaluate_run(run_dir, progress=False)
        scores = json.loads((run_dir / "scores" / f"{run.evaluation_task}.json").read_text())
        expected = {"scienceqa": 4, "coco_caption": 1, "mme": 12}[run.evaluation_task]
        assert scores["n"] == expected, run.name
    # In small, the report's base run and the paper's run differ in nothing; and the last quarter of
    # three steps, of which `swa` is the mean, is the last one.
    same = ("colab_base", "swa")
    trained = [run for run in runs if run.adapter == TRAINED and run.name not in same]
    weights = [study.run_dir(run) / "adapter" / "adapter.safetensors" for run in trained]
    assert len({path.read_bytes() for path in weights}) == len(trained)
