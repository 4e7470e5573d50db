"""Protects what the page says first: each reported number is judged once for each run."""

from pathlib import Path

from ademvl.reporting.page.overview import VerdictLine, count_verdicts, verdict_lines
from ademvl.reporting.reported import load_reported
from ademvl.reporting.results import read_results
from ademvl.reporting.tables.build import build_tables
from tests.reporting.page.page_study import REPORTED_DIR
from tests.reporting.synthetic import SyntheticStudy

PLACES = [
    {"table": "scienceqa_test", "row": "ADEM-VL, LLaMA-7B"},
    {"table": "ablation_components", "row": "+ adaptive fusion"},
    {"table": "ablation_projection", "row": "phi: silu"},
]
"""Where the paper prints 93.85."""
ELU = [{"table": "ablation_projection", "row": "phi: elu"}]


def _verdicts(study: SyntheticStudy) -> list[VerdictLine]:
    results, reported = read_results(study.study), load_reported(REPORTED_DIR)
    return verdict_lines(results, reported, build_tables(results, reported))


def test_number_in_several_tables_is_judged_once_for_each_run(tmp_path: Path) -> None:
    runs = {name: {"label": f"run {name}", "reported": PLACES} for name in "ab"}
    study = SyntheticStudy(tmp_path, scale="paper", runs=runs)
    study.finish_scienceqa("a", {"AVG": (3980, 4241)})
    study.finish_scienceqa("b", {"AVG": (3700, 4241)})
    lines = _verdicts(study)
    found = [(line.run, line.table.key, line.column.header) for line in lines]
    assert found == [("run a", "accuracy", "AVG"), ("run b", "accuracy", "AVG")]
    counts = count_verdicts(lines)
    assert counts == [("reproduced", "reproduced", 1), ("cannot-tell", "cannot tell", 1)]


def test_number_of_other_items_is_not_judged(tmp_path: Path) -> None:
    runs = {"a": {"label": "run a", "reported": PLACES}}
    study = SyntheticStudy(tmp_path, scale="paper", runs=runs)
    study.finish_scienceqa("a", {"AVG": (94, 100)})
    assert not _verdicts(study)


def test_other_scale_has_directions_alone_under_the_runs_name(tmp_path: Path) -> None:
    runs = {
        "silu": {"label": "SiLU", "reported": PLACES},
        "elu": {"label": "ELU", "reported": ELU},
    }
    study = SyntheticStudy(tmp_path, runs=runs)
    study.finish_scienceqa("silu", {"AVG": (3980, 4241)})
    study.finish_scienceqa("elu", {"AVG": (3700, 4241)})
    (line,) = _verdicts(study)
    assert (line.run, line.table.key) == ("ELU", "ablation_projection")
    assert line.column.is_change
