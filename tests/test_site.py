"""Protects the docs as a site: built strictly and without network, every page and link in it."""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from tests.conftest import PROJECT_ROOT
from tests.loopback import serving
from tests.reporting.page.browser import PATIENCE, chromium

pytest.importorskip("zensical", reason="the extra `docs` is missing")

NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built in a copy of what it is made of."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(PROJECT_ROOT / "docs", folder / "docs")
    shutil.copy(PROJECT_ROOT / "zensical.toml", folder)
    built = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=folder,
        env=os.environ | NO_NETWORK,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in site.glob("*.html")}


def test_every_page_is_there_and_in_the_navigation(pages: dict[str, str]) -> None:
    expected = {f"{path.stem}.html" for path in (PROJECT_ROOT / "docs").glob("*.md")}
    assert expected <= set(pages)
    entry = r'<a href="(?:\./)?([\w.]+\.html)" class="md-nav__link'
    linked = set(re.findall(entry, pages["index.html"]))
    assert expected - {"index.html"} <= linked


def test_nothing_is_loaded_from_elsewhere(pages: dict[str, str]) -> None:
    loads = r'<(?:script|img|link|iframe)\b[^>]*?\b(?:src|href)="(https?://[^"]+)"'
    assert {name: found for name, text in pages.items() if (found := re.findall(loads, text))} == {}


def test_links_lead_to_places_that_are_there(pages: dict[str, str], site: Path) -> None:
    anchors = {name: set(re.findall(r'\bid="([^"]+)"', text)) for name, text in pages.items()}
    dead = []
    for name, text in pages.items():
        for link in set(re.findall(r'<a\b[^>]*?\bhref="([^":]*)"', text)) - {"", ".", "./"}:
            page, _, anchor = link.partition("#")
            is_there = (site / (page or name)).exists()
            if not is_there or (anchor and anchor not in anchors[page or name]):
                dead.append(f"{name}: {link}")
    assert [link for link in dead if not link.startswith("404")] == []


def test_lists_are_lists(pages: dict[str, str]) -> None:
    # GitHub begins a list right below a paragraph, Python's Markdown leaves its lines in there.
    assert [name for name, text in pages.items() if re.search(r"<p>[^<]*\n[-*] ", text)] == []


def test_first_page_has_three_ways_in_and_settings_are_searched(
    pages: dict[str, str], site: Path
) -> None:
    ways = re.findall(r"<h2 id=[^>]*>([^<]+)<", pages["index.html"])
    assert ways == ["A laptop, no GPU", "One GPU of 24 GB", "Your own method"]
    found = json.loads((site / "search.json").read_text(encoding="utf-8"))
    texts = [str(item) for item in found["items"] if "settings" in str(item.get("location"))]
    assert any("base_lr" in text for text in texts)


@pytest.mark.slow
def test_search_finds_a_page(site: Path) -> None:
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(site))
    with serving(handler) as address, chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{address}/index.html")
        page.get_by_role("button", name="Search").first.click()
        page.keyboard.type("golden answers")
        page.get_by_text("Pass an adapter on").last.click()
        page.wait_for_url(f"{address}/sharing.html*")
        assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
