"""Protects the rule that converts a release of Meta once, for all studies that name it."""

from pathlib import Path

import pytest
import yaml

from tests.workflow.killing import run_to_end


@pytest.mark.slow
def test_a_release_is_converted_by_the_workflow(golden_dir: Path, tmp_path: Path) -> None:
    study = {
        "study": "converted",
        "datasets": {"easy_vqa_smoke": {"train_questions": 8}},
        "backbones": {"llama2_7b": {"existing": str(golden_dir / "models" / "weights" / "13B")}},
        "defaults": {"dataset": "easy_vqa_smoke", "backbones": {"llm": "llama2_7b"}},
        "runs": {"adem": {"method": {"scales": [64]}}},
    }
    configfile = tmp_path / "study.yaml"
    configfile.write_text(yaml.safe_dump(study), encoding="utf-8")
    marker = "results/shared/converted/llama2_7b/conversion.json"
    run_to_end(tmp_path, marker, configfile=configfile)
    folder = (tmp_path / marker).parent
    assert (folder / "config.json").is_file()
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    run_yaml = "results/converted/runs/adem/seed0/run.yaml"
    run_to_end(tmp_path, run_yaml, configfile=configfile)
    run = yaml.safe_load((tmp_path / run_yaml).read_text(encoding="utf-8"))
    assert run["backbones"]["llm"] == "results/shared/converted/llama2_7b"
