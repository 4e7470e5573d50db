"""A tiny data set, and runs with random adapters to be asked about it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ademvl.config.evaluation import EvaluationSettings
from ademvl.model.adapter_file import save_adapter
from ademvl.model.build import build_model
from tests.tiny import make_run, make_scienceqa, write_run

NUM_TEST = 9


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    root = folder / "data" / "scienceqa"
    make_scienceqa(root, num_test=NUM_TEST)
    # Captions of no test image: a request has none either, so that both see the same prompt.
    (root / "captions.json").write_text(json.dumps({"captions": {"1": "a cat"}}))
    return folder


@pytest.fixture
def make(base: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write a run with a random adapter."""

    def build(name: str = "run", **changes: object) -> Path:
        run = make_run(base, evaluation=EvaluationSettings(max_new_tokens=6), **changes)
        run_dir = write_run(tmp_path / name, run)
        model = build_model(run)
        model.initialize(1)
        save_adapter(run_dir / "adapter", model, run)
        return run_dir

    return build
