"""Fixtures: a study of which nothing has been run, and one of which everything has."""

from pathlib import Path

import pytest

from tests.reporting.synthetic import METRICS, SyntheticStudy


@pytest.fixture
def synthetic(tmp_path: Path) -> SyntheticStudy:
    return SyntheticStudy(tmp_path)


@pytest.fixture
def finished(synthetic: SyntheticStudy) -> SyntheticStudy:
    return finish(synthetic)


@pytest.fixture
def finished_at_paper_scale(synthetic: SyntheticStudy) -> SyntheticStudy:
    """The same numbers in a study of the paper's scale."""
    synthetic.at_paper_scale()
    return finish(synthetic)


def finish(synthetic: SyntheticStudy) -> SyntheticStudy:
    """Finish every run, with numbers that can be checked by hand."""
    first = {"NAT": (90, 100), "IMG": (170, 200), "NO": (99, 100), "AVG": (269, 300)}
    second = {"NAT": (94, 100), "IMG": (180, 200), "NO": (99, 100), "AVG": (279, 300)}
    control = {"NAT": (25, 100), "IMG": (80, 200), "NO": (98, 100), "AVG": (178, 300)}
    synthetic.finish_scienceqa("adem", first, seed=0)
    synthetic.finish_scienceqa("adem", second, seed=1)
    synthetic.finish_scienceqa("text_only", control)
    captions = dict(zip(METRICS, (60, 70, 80, 90, 50, 110), strict=True))
    synthetic.finish_captions("captions", captions)
    return synthetic
