"""Protects the page of a study that was really run, and Snakemake's own report with the same."""

import zipfile
from pathlib import Path

import pytest

from tests.reporting.page.browser import chromium, visit
from tests.workflow.killing import run_to_end

pytest.importorskip("easy_vqa", reason="the package easy-vqa is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the smoke study in a folder of its own."""
    folder = tmp_path_factory.mktemp("smoke")
    run_to_end(folder)
    return folder


@pytest.mark.slow
def test_page_of_a_real_study_opens_without_complaints(folder: Path) -> None:
    page_file = folder / "results/smoke/report/index.html"
    with chromium() as browser:
        found = visit(browser, page_file)
        body = found.page.inner_text("body")
        broken = found.page.evaluate("[...document.images].filter((i) => !i.naturalWidth).length")
    assert found.complaints == []
    assert broken == 0
    assert all(url.startswith(page_file.parent.as_uri()) for url in found.requests)
    assert "120 questions" in body
    assert "40 images" in body
    assert "points" in body
    assert "Incomplete" not in body


@pytest.mark.slow
def test_snakemakes_own_report_holds_the_same_with_captions(folder: Path) -> None:
    run_to_end(folder, "--report", "report.zip")
    with zipfile.ZipFile(folder / "report.zip") as archive:
        names = archive.namelist()
        page = archive.read(next(name for name in names if name.endswith("/report.html"))).decode()
    for part in (
        "/index.html",
        "/accuracy.html",
        "/item_1.png",
        ".webp",
        "/scienceqa-easy-vqa-smoke-test.js",
    ):
        assert any(name.endswith(part) for name in names), part
    for caption in ("verdicts first", "Which image patches each word", "Measured numbers"):
        assert caption in page, caption
