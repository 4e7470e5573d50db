"""Protects task instruction through the workflow: copies in place, features, training, MME."""

import json
from pathlib import Path

import pytest
import yaml

from tests.tiny import make_instructions, make_mme
from tests.workflow.killing import run_to_end


@pytest.fixture
def configfile(tmp_path: Path) -> Path:
    lavin = make_instructions(tmp_path / "copies" / "lavin", num_items=24)
    mme = make_mme(tmp_path / "copies" / "mme")
    (mme / "color").rename(mme / "existence")  # by which a copy of MME is recognised
    study = {
        "study": "instructions",
        "scale": "mini",
        "datasets": {
            "lavin": {"source": "lavin_instruct", "existing": str(lavin), "subset": True},
            "mme": {"source": "mme", "existing": str(mme), "subset": True},
        },
        "defaults": {
            "task": "instruction",
            "dataset": "lavin",
            "evaluation_dataset": "mme",
            "prompts": {"max_seq_len": 128},
            "method": {"beta": 0.1, "scales": [64, 16]},
            "optimization": {
                "epochs": 1.0,
                "effective_batch_size": 8,
                "per_device_batch_size": 8,
            },
            "evaluation": {"max_new_tokens": 4},
        },
        "runs": {
            "cached": {"features": {"mode": "cached"}},
            "online": {"features": {"mode": "online"}},
            "longer_answers": {"adapter": "cached", "evaluation": {"max_new_tokens": 6}},
        },
    }
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return path


@pytest.mark.slow
def test_instructions_go_through_the_whole_workflow(configfile: Path, tmp_path: Path) -> None:
    run_to_end(tmp_path, configfile=configfile)
    results = tmp_path / "results" / "instructions"
    for run in ("cached", "online", "longer_answers"):
        folder = results / "runs" / run / "seed0"
        scores = json.loads((folder / "scores" / "mme.json").read_text(encoding="utf-8"))
        assert (scores["n"], sorted(scores["tasks"])) == (12, ["existence", "landmark"])
        assert len((folder / "predictions" / "mme.jsonl").read_text().splitlines()) == 12
    taken = json.loads((results / "runs/longer_answers/seed0/provenance.json").read_text())
    assert taken["adapter_of"] == "cached"
    [report] = (results / "features").iterdir()
    features = json.loads(report.read_text(encoding="utf-8"))
    assert features["num_images"] == 16 + 6
    assert "Nothing to be done" in run_to_end(tmp_path, configfile=configfile)
