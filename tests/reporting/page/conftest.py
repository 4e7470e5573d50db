"""One browser, and the pages that tests of the page look at."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.reporting.page.browser import Visit, chromium, visit
from tests.reporting.page.page_study import answered_study, make_page
from tests.reporting.page.peers_study import peers_study

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="package")
def browser() -> Iterator["Browser"]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="package")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_page(answered_study(tmp_path_factory.mktemp("study")))


@pytest.fixture(scope="module")
def opened(browser: "Browser", page_file: Path) -> Iterator[Visit]:
    found = visit(browser, page_file)
    yield found
    found.page.context.close()


@pytest.fixture
def page(opened: Visit) -> "Page":
    """Return the opened page, its filters cleared."""
    opened.page.evaluate(
        """async () => {
            document.querySelectorAll("form").forEach((form) => form.reset());
            await new Promise((resolve) => setTimeout(resolve, 20));
        }"""
    )
    return opened.page


@pytest.fixture(scope="package")
def peers_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_page(peers_study(tmp_path_factory.mktemp("peers")))
