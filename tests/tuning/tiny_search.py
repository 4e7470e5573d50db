"""A study with tiny models and a search of two settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ademvl.config.study import Study, load_study
from tests.tiny import TOWER, make_llm, make_scienceqa, make_tower

SPACE = {
    "method.gamma": {"low": 0.0, "high": 0.5, "step": 0.25},
    "optimization.base_lr": {"low": 0.01, "high": 1.0, "log": True},
}
OPTIMIZATION = {
    "epochs": 4.0,
    "warmup_epochs": 0.5,
    "base_lr": 0.5,
    "effective_batch_size": 4,
    "per_device_batch_size": 4,
}


def make_files(folder: Path) -> None:
    """Write language model, tower and questions; those of the test split have no images."""
    make_llm(folder / "llm")
    make_tower(folder / "tower")
    data = make_scienceqa(folder / "shared/data/tiny/scienceqa", num_val=6)
    for image in (data / "images/test").rglob("*.png"):
        image.unlink()


def make_search(
    folder: Path,
    *,
    run: Mapping[str, Any] | None = {},
    results_dir: Path | None = None,
    **tune: Any,
) -> Study:
    """Return a study with a search.

    Args:
        folder: with what `make_files` writes.
        run: settings of the run that is searched; None searches nothing.
        results_dir: of the study; in the folder if not given.
        tune: changes what is said of the search.
    """
    search = {"run": "adem", "space": SPACE, "trials": 4, "rungs": 2, "reduction": 2, **tune}
    raw = {
        "study": "tiny",
        "results_dir": str(results_dir or folder / "results"),
        "shared_dir": str(folder / "shared"),
        "datasets": {"tiny": {}},
        "defaults": {
            "dataset": "tiny",
            "backbones": {
                "llm": str(folder / "llm"),
                "tower": TOWER,
                "tower_weights": str(folder / "tower/tower.pt"),
                "precision": "fp32",
            },
            "features": {"mode": "cached"},
            "prompts": {"max_seq_len": 128},
            "method": {"gamma": 0.25, "scales": [16, 4], "projection_width": 8},
            "optimization": OPTIMIZATION,
        },
        "runs": {
            "adem": run or {},
            "asked_on_val": {"adapter": "adem", "evaluation": {"split": "val"}},
        },
    }
    return load_study(raw if run is None else raw | {"tune": search})
