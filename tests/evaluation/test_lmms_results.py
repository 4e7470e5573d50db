"""Protects scores of lmms-eval: those of its results file, of the right adapter, or refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ademvl.cli import main
from ademvl.config.run import BackboneSettings
from ademvl.errors import DataError
from ademvl.evaluation.lmms_results import read_lmms_results
from ademvl.methods.adem.settings import AdemSettings
from ademvl.model.adapter_file import save_adapter
from ademvl.model.build import build_model
from ademvl.reporting.reported import load_reported
from ademvl.reporting.results import read_results
from ademvl.reporting.tables.scores import image_understanding_table
from ademvl.runs.run_files import RunFiles
from ademvl.statistics.intervals import wilson_interval
from tests import tiny
from tests.reporting.page.page_study import REPORTED_DIR
from tests.reporting.synthetic import SyntheticStudy, adapter_sha256, write_sealed

WRITTEN = Path(__file__).with_name("lmms_results.json")
"""What lmms-eval 0.7.3 wrote of a local task of 24 questions with `--limit 20`."""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write the results with tasks of other names and numbers."""

    def build(asked: Any = "results/tiny/runs/adem/seed0", **tasks: dict[str, Any]) -> Path:
        raw = json.loads(WRITTEN.read_text(encoding="utf-8"))
        score, counts = raw["results"]["ademvl_said"], raw["n-samples"]["ademvl_said"]
        raw["results"] = {task: {**score, **of} for task, of in tasks.items()}
        raw["n-samples"] = dict.fromkeys(tasks, counts)
        raw["config"]["model_args"] = f"adapter={asked},prompts=verbatim"
        path = tmp_path / "20261130_204022_results.json"
        path.write_text(json.dumps(raw), encoding="utf-8")
        return path

    return build


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asked")
    backbones = BackboneSettings(llm="mini", tower="mini", tower_weights="")
    method = AdemSettings(scales=(64, 16), projection_width=8)
    run = tiny.make_run(folder / "base", method=method, backbones=backbones)
    run_dir = tiny.write_run(folder / "runs/adem/seed0", run)
    model = build_model(run)
    model.initialize(1)
    save_adapter(run_dir / "adapter", model, run)
    return run_dir


def test_scores_have_the_intervals_of_their_items(write: Write) -> None:
    whole = {"gpt_eval_score,none": 50.0}
    found = read_lmms_results(write(gqa={}, mmbench_en_dev=whole, mmmu_val={"mmmu_acc,none": 0.35}))
    expected = wilson_interval(13, 20)
    assert found["columns"]["GQA"] == expected.as_percent()
    assert found["columns"]["MMMU"] == wilson_interval(7, 20).as_percent()
    circular, questions = found["columns"]["MMB"], wilson_interval(2, 5).as_percent()
    assert (circular["percent"], circular["n"]) == (50, 20)
    assert (circular["ci_low"], circular["ci_high"]) == (questions["ci_low"], questions["ci_high"])
    assert found["tasks"]["GQA"] == "gqa (first 20 of 24)"


def test_score_is_that_of_the_file_where_answers_are_partly_right(write: Write) -> None:
    found = read_lmms_results(write(vqav2_val={"exact_match,none": 0.6666}))
    assert found["columns"]["VQAv2"]["percent"] == pytest.approx(66.66)


@pytest.mark.parametrize(
    ("tasks", "told"),
    [
        ({"ademvl_said": {}}, "none of the tasks vqav2_val, .*; it has ademvl_said"),
        ({"gqa": {"exact_match,none": "N/A"}}, "gqa: exact_match is 'N/A', not a number"),
        ({"gqa": {"exact_match,none": 65.0}}, "gqa: exact_match is 65.0, outside 0 to 1"),
        ({"gqa": {"exact_match,none": float("nan")}}, "gqa: exact_match is nan, outside"),
        ({"mmmu_val": {}}, "mmmu_val: expected one mmmu_acc"),
        ({"gqa": {"exact_match,strict": 1}}, "found exact_match,none, exact_match,strict"),
        ({"gqa": {}, "gqa_lite": {}}, "GQA: both gqa and gqa_lite"),
    ],
)
def test_numbers_that_cannot_be_are_refused(
    write: Write, tasks: dict[str, dict[str, Any]], told: str
) -> None:
    with pytest.raises(DataError, match=told):
        read_lmms_results(write(**tasks))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"results": {"gqa": 1}, "n-samples": {}}', '{"doc_id": 0}\n{}']
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(DataError, match=r"_results\.json"):
        read_lmms_results(tmp_path / "other.json")


@pytest.mark.parametrize("n", ["0.5", "0", "true", "null", "1" + "0" * 30])
def test_number_of_items_that_is_none_is_refused(write: Write, n: str) -> None:
    path = write(gqa={})
    path.write_text(path.read_text().replace('"effective": 20', f'"effective": {n}'))
    with pytest.raises(DataError, match="gqa: n-samples: effective is"):
        read_lmms_results(path)


def test_run_gets_the_scores_of_its_own_adapter(write: Write, run_dir: Path, capsys) -> None:
    results = write(run_dir, gqa={})
    assert main(["score", "lmms-eval", "--results", str(results), "--run", str(run_dir)]) == 0
    assert "gqa (first 20 of 24)" in capsys.readouterr().out
    taken = json.loads(RunFiles(run_dir).lmms_scores.read_text())
    assert taken["columns"]["GQA"]["percent"] == 65
    assert taken["source"]["path"] == results.name
    assert (
        taken["adapter_sha256"]
        == json.loads((run_dir / "adapter/adapter.json").read_text())["sha256"]
    )


def test_scores_of_others_are_refused(write: Write, run_dir: Path, tmp_path: Path, capsys) -> None:
    run = tiny.make_run(
        tmp_path / "base",
        method=AdemSettings(scales=(64, 16), projection_width=8),
        backbones=BackboneSettings(llm="mini", tower="mini", tower_weights=""),
    )
    other = tiny.write_run(tmp_path / "runs/other/seed0", run)
    model = build_model(run)
    model.initialize(2)
    save_adapter(other / "adapter", model, run)

    def told(results: Path) -> str:
        assert main(["score", "lmms-eval", "--results", str(results), "--run", str(run_dir)]) == 2
        return capsys.readouterr().err

    RunFiles(run_dir).lmms_scores.unlink(missing_ok=True)
    assert "which is another one than" in told(write(other, gqa={}))
    assert "Start where lmms-eval was started" in told(write("elsewhere/runs/adem/seed1", gqa={}))
    llava = write(run_dir, gqa={})
    llava.write_text(llava.read_text().replace('"model": "ademvl"', '"model": "llava"'))
    assert "of model 'llava', expected ademvl" in told(llava)
    assert not RunFiles(run_dir).lmms_scores.exists()


def test_scores_of_another_machine_are_taken_by_the_names_of_run_and_seed(
    write: Write, run_dir: Path
) -> None:
    results = write("/scratch/results/paper/runs/adem/seed0", gqa={})
    assert main(["score", "lmms-eval", "--results", str(results), "--run", str(run_dir)]) == 0


@pytest.fixture
def study(tmp_path: Path, write: Write) -> SyntheticStudy:
    """Return a study of which lmms-eval asked one run."""
    study = SyntheticStudy(tmp_path / "study")
    for seed in (0, 1):
        folder = study.finish_scienceqa("adem", {"AVG": (9, 10)}, seed=seed)
        run = next(r for r in study.study.runs if (r.name, r.seed) == ("adem", seed))
        taken = {**read_lmms_results(write(gqa={})), "adapter_sha256": adapter_sha256(run)}
        taken["source"]["path"] = "20261130_204022_results.json"
        write_sealed(RunFiles(folder).lmms_scores, taken)
    return study


def test_table_has_a_row_of_what_was_measured(study: SyntheticStudy) -> None:
    table = image_understanding_table(read_results(study.study), load_reported(REPORTED_DIR))
    mine, theirs = table.blocks
    (row,) = mine.rows
    cell = row.cell(next(column for column in mine.columns if column.key == "gqa"))
    assert (cell.value, cell.n, row.texts["seeds"]) == (65, 20, "0, 1")
    assert cell.split == ""
    told = (
        "ADEM-VL: measured by lmms-eval, GQA by gqa (first 20 of 24); 20261130_204022_results.json."
    )
    assert told in row.notes
    assert theirs.is_reported_only


def test_paper_scale_stands_in_the_reported_table_without_verdicts(study: SyntheticStudy) -> None:
    study.at_paper_scale()
    results = read_results(study.study)
    assert results.runs[0].seeds[0].state == "stale"  # of other backbones, so its scores are gone
    (block,) = image_understanding_table(results, load_reported(REPORTED_DIR)).blocks
    assert block.sections[0].title == "Measured here"
    assert not any(row.cell(c).judgement for row in block.rows for c in block.columns)


def test_scores_of_an_earlier_adapter_are_left_out(study: SyntheticStudy) -> None:
    path = RunFiles(study.run_dir("adem", 1)).lmms_scores
    content = json.loads(path.read_text()) | {"adapter_sha256": "0" * 64}
    write_sealed(path, {key: value for key, value in content.items() if key != "sha256"})
    mine, _ = image_understanding_table(
        read_results(study.study), load_reported(REPORTED_DIR)
    ).blocks
    assert mine.rows[0].texts["seeds"] == "0"
    told = "Left out, lmms-eval asked an adapter that the run has no more: seed 1."
    assert told in mine.rows[0].notes


def test_scores_changed_by_hand_are_refused(study: SyntheticStudy) -> None:
    path = RunFiles(study.run_dir("adem", 0)).lmms_scores
    path.write_text(path.read_text().replace("65.0", "75.0"))
    with pytest.raises(DataError, match="changed since they were taken"):
        image_understanding_table(read_results(study.study), load_reported(REPORTED_DIR))
