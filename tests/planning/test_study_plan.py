"""Protects the plan of a study: its numbers, its text, its JSON, and how fast it comes."""

import json
import os
import re
import subprocess
import sys

import pytest
import yaml

from ademvl.config.study import load_study
from ademvl.errors import SettingsError
from ademvl.planning.devices import gpu_by_name
from ademvl.planning.plans import Target
from ademvl.planning.render import render_plan
from ademvl.planning.study_plan import plan_study, to_plain
from ademvl.training.order import StepPlan
from tests.conftest import PROJECT_ROOT

PAPER = PROJECT_ROOT / "workflow" / "studies" / "paper-7b.yaml"


@pytest.fixture(scope="module")
def paper():
    return plan_study(load_study(PAPER), Target(gpu=gpu_by_name("A800"), count=8))


@pytest.fixture(scope="module")
def mini():
    return plan_study(load_study(PROJECT_ROOT / "config.yaml"), Target())


def _run(plan, name):
    return next(run for run in plan.runs if run.name == name)


def test_paper_has_the_published_number_of_trained_parameters(paper):
    assert _run(paper, "scienceqa_7b").num_trained == 4_530_432


def test_steps_are_those_of_training():
    run = load_study(PAPER).runs[0]
    plan = StepPlan(12_726, run.seed, run.optimization)
    assert run.optimization.total_steps(12_726) == plan.total_steps


def test_a_run_that_evaluates_anothers_adapter_does_not_train(paper):
    run = _run(paper, "scienceqa_7b_matched")
    assert not run.trains
    assert (run.flops.training, run.flops.optimizer_steps) == (0, 0)
    assert run.flops.evaluation > 0


def test_eight_gpus_share_the_training_and_wait_for_the_one_with_most_to_do(paper):
    alone = plan_study(load_study(PAPER), Target(gpu=gpu_by_name("A800"), count=1))
    shared_run, run = _run(paper, "captions_7b"), _run(alone, "captions_7b")
    busiest, seconds = shared_run.flops.busiest, run.seconds.training.expected
    assert 1 < 8 * busiest < 1.2
    assert shared_run.seconds.training.expected == pytest.approx(seconds * busiest, rel=1e-12)
    training = shared_run.seconds.training.expected * 8
    rest = shared_run.seconds.evaluation.expected
    hours = shared_run.seeds * (training + rest) / 3600
    assert shared_run.gpu_hours.expected == pytest.approx(hours, rel=1e-12)


def test_hours_fall_with_the_utilization_that_is_reached():
    def hours(utilization):
        target = Target(gpu=gpu_by_name("H100"), utilization=utilization)
        return plan_study(load_study(PAPER), target).gpu_hours.expected

    assert hours(0.5) < hours(0.25)


def test_totals_are_the_sums_of_the_parts(paper):
    plain = to_plain(paper)
    runs = plain["runs"]
    assert plain["totals"]["flops"] == pytest.approx(
        plain["feature_flops"] + sum(run["flops"]["total"] * run["seeds"] for run in runs)
    )
    assert plain["totals"]["disk_bytes"] == sum(part["bytes"] for part in plain["disk"])


def test_the_trainings_of_a_grid_are_counted():
    peers = PROJECT_ROOT / "workflow/studies/peers-mini.yaml"
    raw = {"study": "grid", "include": [str(peers)], "only": ["adem", "adem_online"]}
    target = Target(gpu=gpu_by_name("T4"))
    chosen = plan_study(load_study(raw), target)
    set_rate = {**raw, "defaults": {"optimization": {"lr_grid": []}}}
    fixed = plan_study(load_study(set_rate), target)
    assert fixed.choices == ()
    assert [(choice.name, choice.seeds) for choice in chosen.choices] == [
        ("adem", 3),
        ("adem_online", 3),
    ]
    for run, choice in zip(chosen.runs, chosen.choices, strict=True):
        assert choice.flops.training == run.flops.training
        assert choice.flops.evaluation < run.flops.evaluation  # the val split is smaller
    grids = sum(3 * choice.flops.total for choice in chosen.choices)
    features = chosen.feature_flops - fixed.feature_flops  # of the images of val
    assert features > 0
    assert chosen.flops == pytest.approx(fixed.flops + grids + features)
    assert chosen.disk_bytes > fixed.disk_bytes
    assert "2 runs, 10 with all seeds, and 6 trainings to choose rates" in render_plan(chosen)
    totals = [choice["flops"]["total"] for choice in to_plain(chosen)["choices"]]
    assert totals == [choice.flops.total for choice in chosen.choices]


def test_mini_study_needs_no_gpu_and_little_of_anything(mini):
    assert {run.device for run in mini.runs} == {"cpu"}
    assert all(run.memory.total < 2 * 2**30 for run in mini.runs)
    assert mini.disk_bytes < 1e9
    assert mini.gpu_hours is None


def test_text_holds_a_row_a_run_and_says_what_was_assumed(paper):
    text = render_plan(paper)
    assert f"paper_7b: {len(paper.runs)} runs" in text
    assert "4,530,432" in text
    assert "fits into 80.0 GiB" in text
    assert "assumed, and not checked:" in text
    assert "with gradient checkpointing" in text


def test_run_of_an_unknown_model_is_left_out_with_the_reason(tmp_path):
    study = yaml.safe_load((PROJECT_ROOT / "config.yaml").read_text(encoding="utf-8"))
    study["runs"]["captions"]["backbones"] = {"llm": "someone/unknown"}
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(study), encoding="utf-8")
    plan = plan_study(load_study(file), Target())
    assert [run.name for run in plan.runs].count("captions") == 0
    assert "not planned: captions: backbones.llm" in render_plan(plan)


def test_run_too_large_for_the_gpu_comes_with_settings_that_fit():
    plan = plan_study(load_study(PAPER), Target(gpu=gpu_by_name("V100-16GB")))
    text = render_plan(plan)
    assert "DOES NOT FIT into 15.8 GiB" in text
    assert "would fit with" in text
    assert "backbones.quantization: int4" in text


@pytest.mark.parametrize("changes", [{"utilization": 0.0}, {"utilization": 1.5}, {"count": 0}])
def test_impossible_targets_are_refused(changes):
    with pytest.raises(SettingsError):
        Target(**changes)


def test_verb_prints_json_without_importing_torch():
    command = [sys.executable, "-X", "importtime", "-m", "ademvl", "plan", "--study", str(PAPER)]
    done = subprocess.run(
        [*command, "--gpu", "T4", "--json"],
        capture_output=True,
        text=True,
        check=True,
        cwd=PROJECT_ROOT,
    )
    plain = json.loads(done.stdout)
    assert plain["target"]["gpu"]["name"] == "T4"
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & {"torch", "transformers", "open_clip", "pandas"}


def test_documented_plan_is_what_the_verb_prints(tmp_path, pytestconfig):
    page = PROJECT_ROOT / "docs" / "planning.md"
    text = page.read_text(encoding="utf-8")
    command = re.search(r"^ademvl (plan --study .*)$", text, flags=re.MULTILINE)[1]
    arguments = command.replace("workflow/", f"{PROJECT_ROOT}/workflow/").split()
    printed = subprocess.run(
        [sys.executable, "-m", "ademvl", *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,  # where no data is
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
    ).stdout
    shown = re.search(r"```text\n(.*?)```", text, flags=re.DOTALL)[1]
    if pytestconfig.getoption("--update-golden"):
        page.write_text(text.replace(shown, printed), encoding="utf-8")
        return
    assert shown == printed, "run this test with --update-golden and review the page"


def test_verb_writes_settings_when_asked(tmp_path):
    study = yaml.safe_load((PROJECT_ROOT / "config.yaml").read_text(encoding="utf-8"))
    study["results_dir"] = str(tmp_path / "results")
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(study), encoding="utf-8")
    command = [sys.executable, "-m", "ademvl", "plan", "--study", str(file)]
    subprocess.run(command, check=True, cwd=PROJECT_ROOT, capture_output=True)
    assert not (tmp_path / "results").exists()
    subprocess.run([*command, "--write"], check=True, cwd=PROJECT_ROOT, capture_output=True)
    assert (tmp_path / "results" / "mini" / "runs" / "adem" / "seed0" / "run.yaml").is_file()
