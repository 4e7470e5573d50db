"""Protects the promise that a killed workflow ends in the same results by the same command."""

import random
from pathlib import Path

import pytest

from tests.conftest import PROJECT_ROOT
from tests.workflow.killing import outcome, run_and_kill, run_to_end

pytest.importorskip("easy_vqa", reason="the package easy-vqa is not installed")


def check_kills(folder: Path, *, configfile: Path, study: str, kills: int, seconds: float) -> None:
    undisturbed, disturbed = folder / "undisturbed", folder / "disturbed"
    for place in (undisturbed, disturbed):
        place.mkdir()
    run_to_end(undisturbed, configfile=configfile)
    generator = random.Random(0)
    for _ in range(kills):
        run_and_kill(
            disturbed, after_seconds=generator.uniform(3.0, seconds), configfile=configfile
        )
    run_to_end(disturbed, configfile=configfile)
    expected = outcome(undisturbed / "results" / study)
    assert expected
    assert outcome(disturbed / "results" / study) == expected


@pytest.mark.slow
def test_smoke_study_survives_three_kills(tmp_path: Path) -> None:
    configfile = PROJECT_ROOT / "workflow/studies/smoke.yaml"
    check_kills(tmp_path, configfile=configfile, study="smoke", kills=3, seconds=25.0)


@pytest.mark.slow
def test_mini_study_survives_ten_kills(tmp_path: Path) -> None:
    configfile = PROJECT_ROOT / "config.yaml"
    check_kills(tmp_path, configfile=configfile, study="mini", kills=10, seconds=60.0)
