"""A real browser for tests of the page: skipped, saying why, where there is none."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PATIENCE = 120_000
"""Milliseconds to wait for what must come: a bound for machines at work, no measure."""
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def chromium() -> Iterator["Browser"]:
    """Start the installed Chromium without a window."""
    api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    program = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"needs a browser on the PATH: {', '.join(_NAMES)}")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """An opened page with everything that went wrong in it, and every request it made."""

    page: "Page"
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def visit(browser: "Browser", path: Path, *, width: int = 1280, dark: bool = False) -> Visit:
    """Open a page from the file system and bring every part of it into view once."""
    scheme = "dark" if dark else "light"
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    found = Visit(page)
    page.on("console", lambda message: found.complaints.append(message.text))
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    page.on("dialog", lambda dialog: found.complaints.append(dialog.message))
    page.on("requestfailed", lambda request: found.complaints.append(request.url))
    page.on("request", lambda request: found.requests.append(request.url))
    page.goto(path.as_uri())
    load_everything(page)
    return found


def load_everything(page: "Page") -> None:
    """Open all disclosures, scroll past everything, and wait for data and images."""
    page.evaluate("document.querySelectorAll('details').forEach((node) => { node.open = true; })")
    for section in page.query_selector_all("section[data-script]"):
        if section.get_attribute("data-script"):
            section.scroll_into_view_if_needed()
            section.wait_for_selector(".item, .layers button")
    page.evaluate(
        """async () => {
            for (const image of document.images) image.loading = "eager";
            await Promise.all([...document.images].map((image) => image.decode().catch(() => {})));
        }"""
    )
