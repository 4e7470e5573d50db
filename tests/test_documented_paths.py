"""Protects paths that prose names: files move, and what pages and docstrings say must follow."""

import re
from collections.abc import Iterator

import pytest

from tests.conftest import PROJECT_ROOT

PAGES = [
    *sorted(PROJECT_ROOT.glob("docs/*.md")),
    *map(PROJECT_ROOT.joinpath, ("README.md", "CONTRIBUTING.md")),
]
OURS = re.compile(r"(?<![\w/.-])(?:(?:ademvl|tests|benchmarks)/[\w/.]*\w|test_\w+\.py)")
IN_SOURCE = re.compile(r"`([\w/]+\.py)`")  # names in the authors' code stand without backticks


def _files(folder):
    return sorted(PROJECT_ROOT.glob(f"{folder}/**/*.py"))


def _exists(name):
    return (PROJECT_ROOT / name).exists()


def _lines(paths) -> Iterator[tuple[str, str]]:
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            yield f"{path.relative_to(PROJECT_ROOT)}:{number}", line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_that_a_page_names_exist(page):
    findings = [
        f"{place}: {name}"
        for place, line in _lines([page])
        for name in OURS.findall(line)
        if not _exists(name)
    ]
    assert findings == []


def test_files_that_sources_name_exist():
    """Without a folder, as a part of something larger, somewhere in the package."""
    sources = [p for part in ("ademvl", "tests", "benchmarks") for p in _files(part)]
    somewhere = {path.name for path in _files("ademvl")}
    findings = []
    for path in sources:
        findings += [
            f"{place}: {name}"
            for place, line in _lines([path])
            for name in {*IN_SOURCE.findall(line), *OURS.findall(line)}
            if not (name in somewhere or (path.parent / name).exists() or _exists(name))
        ]
    assert findings == []
