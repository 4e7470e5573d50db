"""Protects the mini studies: every ablation row once, every quirk and improvement one change."""

from dataclasses import replace

import pytest

from ademvl.config.factors import one_factor_runs
from ademvl.config.influence import told_differences
from ademvl.config.study import Study, load_study
from ademvl.reporting.references import check_references
from ademvl.reporting.reported import load_reported
from tests.conftest import PROJECT_ROOT

STUDIES = PROJECT_ROOT / "workflow" / "studies"


def study(name: str) -> Study:
    return load_study(STUDIES / f"{name}.yaml")


def test_every_reported_ablation_row_has_exactly_one_run() -> None:
    ablations = study("ablations-mini")
    check_references(ablations, load_reported())
    found = [
        (reference.table, reference.row)
        for run in ablations.settings.runs
        for reference in ablations.reported(run)
    ]
    assert sorted(found) == sorted(
        (key, row.name)
        for key, table in load_reported().tables.items()
        if key.startswith("ablation_")
        for row in table.rows
    )


def test_no_ablation_is_trained_twice() -> None:
    runs = study("ablations-mini").runs
    assert len({(run.method, run.seed) for run in runs}) == len(runs)


def test_every_quirk_differs_from_its_base_in_one_setting() -> None:
    quirks = study("quirks-mini")
    factors = {factor.run for factor in one_factor_runs(quirks)}
    # Its own items, so that nothing can be paired.
    assert set(quirks.settings.runs) - factors - set(quirks.settings.base_runs) == {"captions_val"}


def test_settings_of_quirks_that_are_runs_exist_in_the_docs() -> None:
    page = (PROJECT_ROOT / "docs" / "quirks.md").read_text(encoding="utf-8")
    for factor in one_factor_runs(study("quirks-mini")):
        assert f"`{factor.path}`" in page, factor.path


@pytest.mark.parametrize("name", ["ablations-mini", "quirks-mini"])
def test_mini_studies_share_data_with_the_comparison_of_methods(name: str) -> None:
    peers = study("peers-mini").settings
    assert study(name).settings.datasets == peers.datasets
    assert study(name).settings.shared_dir == peers.shared_dir


def test_the_two_comparisons_differ_in_the_language_model_alone() -> None:
    peers, slots = study("peers-mini"), study("peers-mini-slots")
    assert [run.backbones.llm for run in slots.runs] == ["mini_shapes_slots"] * len(peers.runs)
    backbones = peers.runs[0].backbones
    same = [replace(run, study="peers_mini", backbones=backbones) for run in slots.runs]
    assert same == list(peers.runs)


@pytest.mark.parametrize("name", ["improvements-mini", "improvements-7b"])
def test_every_improvement_is_one_change_that_val_judges(name: str) -> None:
    improvements = study(name)
    factors = one_factor_runs(improvements)
    assert set(improvements.settings.runs) - {factor.run for factor in factors} == {"adem"}
    assert {run.evaluation.split for run in improvements.runs} == {"val"}
    page = (PROJECT_ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    for factor in factors:
        assert factor.path.partition(".")[2] in page, factor.path
        assert f"`{factor.run}`" in page or factor.run in factor.path, factor.run


def test_improvements_begin_where_the_comparison_has_adem() -> None:
    improvements, peers = study("improvements-mini").settings, study("peers-mini").settings
    assert improvements.datasets == peers.datasets
    assert improvements.shared_dir == peers.shared_dir
    differences = told_differences(improvements.runs["adem"], peers.runs["adem"])
    assert {path for path, _, _ in differences} == {"evaluation.split", "optimization.ema_decay"}
    assert improvements.runs["adem"].seeds == peers.runs["adem"].seeds
