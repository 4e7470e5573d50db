"""Protects adapters as a model of lmms-eval: on a local task its answers and accuracy are ours."""

import json
import os
import subprocess
import sys
from ast import literal_eval
from pathlib import Path

import pytest

from ademvl.cli import main
from ademvl.config.evaluation import EvaluationSettings
from ademvl.config.run import BackboneSettings
from ademvl.evaluation.run import evaluate_run
from ademvl.methods.adem.settings import AdemSettings
from ademvl.model.adapter_file import save_adapter
from ademvl.model.build import build_model
from ademvl.runs.run_files import RunFiles
from ademvl.tasks.scienceqa.examples import scienceqa_evaluation_examples
from ademvl.tasks.scienceqa.reader import load_scienceqa
from tests import tiny
from tests.conftest import PROJECT_ROOT

TASK = """\
task: ademvl_{kind}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: {output}
doc_to_visual: !function reading.pictures
doc_to_text: "{{{{prompt}}}}"
doc_to_target: "{target}"
{more}
"""
READING = """\
from ast import literal_eval

from PIL import Image


def pictures(doc):
    return [Image.open(doc["image"])] if doc["image"] else []


def scored(doc, results):  # which lmms-eval 0.7 hands on as texts; its own scoring fails on them
    losses = [literal_eval(result)[0] for result in results]
    return {"acc": float(losses.index(min(losses)) == doc["place"])}
"""


def write_tasks(folder: Path, run, split: str) -> list[str]:
    """Write a data set's prompts as tasks of lmms-eval; return the right letters."""
    dataset = load_scienceqa(Path(run.data_dir))
    examples = scienceqa_evaluation_examples(dataset, split, run.prompts, run.images)
    right = ["AB"[problem.answer_index] for problem in dataset.split(split)]
    lines = [
        {"prompt": example.prompt, "image": str(example.image or ""), "letter": letter,
         "place": "AB".index(letter)}
        for example, letter in zip(examples, right, strict=True)
    ]  # fmt: skip
    data = folder / "questions.jsonl"
    data.write_text("\n".join(map(json.dumps, lines)))
    (folder / "reading.py").write_text(READING)
    generation = (
        "generation_kwargs: {max_new_tokens: 1, temperature: 0, do_sample: false}\n"
        "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]"
    )
    choice = (
        "doc_to_choice: ['A', 'B']\nprocess_results: !function reading.scored\n"
        "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]"
    )
    for kind, output, target, more in (
        ("said", "generate_until", "{{letter}}", generation),
        ("likely", "multiple_choice", "{{place}}", choice),
    ):
        text = TASK.format(kind=kind, data=data, output=output, target=target, more=more)
        (folder / f"{kind}.yaml").write_text(text)
    return right


@pytest.mark.slow
def test_accuracy_on_a_local_task_is_ours(tmp_path: Path) -> None:
    pytest.importorskip("lmms_eval", reason="the extra `lmms` is missing")
    method = AdemSettings(scales=(64, 16), projection_width=8)
    backbones = BackboneSettings(llm="mini", tower="mini", tower_weights="")
    evaluation = EvaluationSettings(answer_by="likelihood")
    tiny.make_scienceqa(tmp_path / "base/data/scienceqa", num_test=24)
    run = tiny.make_run(
        tmp_path / "base", method=method, backbones=backbones, evaluation=evaluation
    )
    run_dir = tiny.write_run(tmp_path / "run", run)
    model = build_model(run)
    model.initialize(1)
    save_adapter(run_dir / "adapter", model, run)
    evaluate_run(run_dir, progress=False)
    ours = json.loads((run_dir / "scores/scienceqa.json").read_text())["columns"]["AVG"]["percent"]
    lines = (run_dir / "predictions/scienceqa.jsonl").read_text().splitlines()
    predicted = [json.loads(line)["predicted_index"] for line in lines]
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    right = write_tasks(tasks, run, "test")
    done = subprocess.run(
        [sys.executable, "-m", "lmms_eval", "--model", "ademvl", "--batch_size", "5",
         "--model_args", f"adapter={run_dir},prompts=verbatim", "--tasks",
         "ademvl_said,ademvl_likely", "--include_path", str(tasks), "--output_path",
         str(tmp_path / "out"), "--log_samples"],
        env=os.environ | {"PYTHONPATH": str(PROJECT_ROOT), "HF_HUB_OFFLINE": "1",
                          "HF_DATASETS_CACHE": str(tmp_path / "cache")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    (file,) = tmp_path.glob("out/**/*_results.json")
    text = file.read_text()
    results = json.loads(text)["results"]
    assert results["ademvl_likely"]["acc,none"] == pytest.approx(ours / 100)
    file.write_text(text.replace("ademvl_said", "gqa"))  # a local task cannot have such a name
    assert main(["score", "lmms-eval", "--results", str(file), "--run", str(run_dir)]) == 0
    taken = json.loads(RunFiles(run_dir).lmms_scores.read_text())["columns"]["GQA"]
    assert (taken["n"], taken["percent"]) == (24, 100 * results["ademvl_said"]["exact_match,none"])
    (file,) = tmp_path.glob("out/**/*_samples_ademvl_likely.jsonl")
    samples = [json.loads(line) for line in file.read_text().splitlines()]
    losses = [[literal_eval(pair)[0] for pair in sample["filtered_resps"]] for sample in samples]
    assert [each.index(min(each)) for each in losses] == predicted
    (file,) = tmp_path.glob("out/**/*_samples_ademvl_said.jsonl")
    said = [json.loads(line) for line in file.read_text().splitlines()]
    matches = [s["filtered_resps"][0] == letter for s, letter in zip(said, right, strict=True)]
    assert results["ademvl_said"]["exact_match,none"] == pytest.approx(sum(matches) / len(right))
