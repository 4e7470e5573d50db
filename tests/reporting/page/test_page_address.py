"""Protects that what is open on the page stands in its address, and can be passed on."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.reporting.page.page_study import QUESTIONS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


def test_address_keeps_filters_page_item_and_fusion_map(
    browser: "Browser", page_file: Path, page: "Page"
) -> None:
    page.select_option(f"{QUESTIONS} [name=first]", "0")
    page.select_option(f"{QUESTIONS} [name=first-is]", "right")
    page.fill(f"{QUESTIONS} input[name=text]", "square")
    page.click(f"{QUESTIONS} .pager >> text=Next")
    asked, count = page.evaluate("location.hash"), page.inner_text(f"{QUESTIONS} .count")
    link = page.locator(f"{QUESTIONS} .item .about a").nth(3)
    shared, item = link.get_attribute("href"), link.inner_text()
    page.click("#fusion-maps .layers button:nth-child(3)")
    drawn = page.evaluate("location.hash")
    said = page.inner_text("#fusion-maps .viewer [role=status]")
    page.click("#fusion-maps .layers button:nth-child(1)")
    other = browser.new_page()
    for hash_, look, expected in (
        (asked, f"{QUESTIONS} .count", count),
        (shared, f"{QUESTIONS} [aria-current] .about a", item),
        (drawn, "#fusion-maps .viewer [role=status]", said),
    ):
        other.goto("about:blank")
        other.goto(page_file.as_uri() + hash_)
        other.wait_for_selector(look)
        assert other.inner_text(look) == expected
    other.goto(page_file.as_uri() + asked)
    other.wait_for_selector(f"{QUESTIONS} .item")
    assert "Page 2 of" in other.inner_text(f"{QUESTIONS} .pager")
    assert other.input_value(f"{QUESTIONS} input[name=text]") == "square"
    other.close()


@pytest.mark.parametrize(
    "hash_", ["outcome=nothing&first=99&page=99&item=none", "page=-1", "text=%"]
)
def test_address_of_what_is_not_there_shows_what_is(
    browser: "Browser", page_file: Path, hash_: str
) -> None:
    opened = browser.new_page()
    failures: list[str] = []
    opened.on("pageerror", lambda error: failures.append(str(error)))
    opened.goto(f"{page_file.as_uri()}{QUESTIONS}?{hash_}")
    opened.wait_for_selector(f"{QUESTIONS} .pager >> text=Page 1 of")
    assert failures == []
    opened.close()
