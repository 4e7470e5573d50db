"""Protects what readers see on a phone, on screens of several widths, in light and in dark."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.reporting.page.browser import visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WIDTHS = (360, 768, 1024, 1130, 1280, 1400, 1920)
A4 = 688
"""Pixels between the margins of a printed page."""
CUT = """() => {
    const found = [];
    for (const number of document.querySelectorAll("table.data .number, .value, .interval")) {
        const frame = number.closest(".scroll").getBoundingClientRect();
        const range = document.createRange();
        range.selectNodeContents(number);
        for (const box of range.getClientRects()) {
            if (box.width && (box.left < frame.left - 1 || box.right > frame.right + 1)) {
                found.push(`${number.closest("table").caption.innerText}: ${number.innerText}`);
            }
        }
    }
    return [document.querySelectorAll("table.data .value").length, found];
}"""
"""Gives how many numbers the tables have, and those of which a part lies outside of the table."""
BROKEN = """() => [...document.querySelectorAll("td .interval")].filter((interval) => {
    const range = document.createRange();
    range.selectNodeContents(interval);
    const boxes = [...range.getClientRects()].filter((box) => box.width > 1);
    return new Set(boxes.map((box) => Math.round(box.top))).size > 1;
}).map((interval) => interval.innerText)"""
"""Gives the intervals that stand on more than one line."""
PLACE_AT_REST = """async (id) => {
    const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
    const top = () => document.getElementById(id).getBoundingClientRect().top;
    let [place, framesAtRest] = [NaN, 0];
    while (framesAtRest < 10) {
        await frame();
        framesAtRest = top() === place ? framesAtRest + 1 : 0;
        place = top();
    }
    return place;
}"""
"""Gives the place of an element in the window once it has not moved for ten frames."""


@pytest.mark.parametrize("width", WIDTHS)
def test_page_never_scrolls_sideways(page: "Page", width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    shown_width = page.evaluate("document.documentElement.scrollWidth")
    page.set_viewport_size({"width": 1280, "height": 900})
    assert shown_width == width


def test_no_number_is_cut_at_any_width_or_in_print(
    browser: "Browser", page: "Page", peers_file: Path, page_file: Path
) -> None:
    peers = visit(browser, peers_file).page
    for opened in (page, peers):
        opened.evaluate("document.querySelectorAll('details').forEach((n) => { n.open = true; })")
        for width in WIDTHS:
            opened.set_viewport_size({"width": width, "height": 900})
            numbers, cut = opened.evaluate(CUT)
            assert numbers > 100
            assert cut == [], width
            assert opened.evaluate(BROKEN) == [], width
        opened.set_viewport_size({"width": A4, "height": 900})
        opened.emulate_media(media="print")
        assert opened.evaluate(CUT)[1] == []
        assert opened.evaluate(BROKEN) == []
        opened.emulate_media(media="screen")
        opened.set_viewport_size({"width": 1280, "height": 900})
    peers.context.close()


def test_table_that_is_too_wide_keeps_first_and_last_column_in_sight(page: "Page") -> None:
    frame = page.locator("#accuracy .scroll")
    page.evaluate("document.querySelector('#accuracy table').style.width = '1500px'")
    page.evaluate("document.querySelector('#accuracy .scroll').style.width = '950px'")
    page.wait_for_selector("#accuracy .scroll.more")
    edges = frame.bounding_box()
    first = page.locator("#accuracy tbody tr > :first-child").first
    last = page.locator("#accuracy tbody tr > :last-child").first
    for _ in range(2):
        left, right = first.bounding_box(), last.bounding_box()
        assert left["x"] == pytest.approx(edges["x"], abs=1)
        assert right["x"] + right["width"] == pytest.approx(edges["x"] + edges["width"], abs=1)
        page.evaluate("document.querySelector('#accuracy .scroll').scrollLeft = 300")
    page.evaluate("document.querySelector('#accuracy .scroll').removeAttribute('style')")
    page.evaluate("document.querySelector('#accuracy table').removeAttribute('style')")


def test_phone_tells_columns_of_the_same_name_apart(browser: "Browser", peers_file: Path) -> None:
    phone = browser.new_page(viewport={"width": 360, "height": 640})
    phone.goto(peers_file.as_uri())
    labels = phone.locator("#comparison table").first.evaluate(
        "table => [...table.querySelector('tr.measured').cells].map((cell) => cell.dataset.label)"
    )
    phone.close()
    assert "ranking: place" in labels
    assert "reported (paper scale): place" in labels
    assert len(set(labels)) == len(labels)


def test_phone_shows_a_number_and_all_of_the_contents_on_its_first_screen(
    browser: "Browser", page_file: Path
) -> None:
    phone = browser.new_page(viewport={"width": 360, "height": 640})
    phone.goto(page_file.as_uri())
    place = phone.locator(".answers strong").first.bounding_box()
    assert place["y"] + place["height"] < 640
    phone.click(".menu")
    links = phone.eval_on_selector_all(
        "nav a", "all => all.map((link) => link.getBoundingClientRect().toJSON())"
    )
    assert len(links) > 8
    assert all(link["left"] >= 0 and link["right"] <= 360 for link in links)
    assert all(link["top"] >= 0 and link["bottom"] <= 640 for link in links)
    phone.close()


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1920, 1280, 768, 360])
@pytest.mark.parametrize("file", ["page_file", "peers_file"])
def test_no_violation_of_accessibility(
    browser: "Browser", file: str, width: int, dark: bool, request: pytest.FixtureRequest
) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="needs axe-playwright-python"
    )
    found = visit(browser, request.getfixturevalue(file), width=width, dark=dark)
    results = axe.Axe().run(found.page).response
    found.page.context.close()
    assert [
        (violation["impact"], violation["id"], [node["target"] for node in violation["nodes"][:3]])
        for violation in results["violations"]
    ] == []


@pytest.mark.parametrize("width", [1280, 360])
def test_links_lead_to_the_top_of_their_section(
    browser: "Browser", page_file: Path, width: int
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})  # not seen as a whole before
    page.goto(page_file.as_uri())
    places = {}
    for section in ("answers", "provenance", "figures", "deviations", "overview"):
        if page.is_visible(".menu"):
            page.click(".menu")
        page.click(f"nav a[href='#{section}']")
        places[section] = page.evaluate(PLACE_AT_REST, section)
    page.close()
    assert all(0 <= place <= 100 for place in places.values()), places


def test_figures_on_a_phone_are_large_enough_to_read_and_scroll(
    browser: "Browser", page_file: Path
) -> None:
    phone = browser.new_page(viewport={"width": 360, "height": 640})
    phone.goto(page_file.as_uri())
    widths = phone.eval_on_selector_all(
        ".drawing", "all => all.map((one) => [one.scrollWidth, one.clientWidth])"
    )
    assert len(widths) == 4
    assert all(drawn > 600 and seen < 360 for drawn, seen in widths)
    assert phone.evaluate("document.documentElement.scrollWidth") == 360
    phone.close()


def test_figures_follow_the_theme(browser: "Browser", page_file: Path) -> None:
    for dark in (False, True):
        found = visit(browser, page_file, dark=dark)
        shown = found.page.eval_on_selector_all(
            "#figures img", "all => all.filter((i) => i.offsetParent).map((i) => i.src)"
        )
        found.page.context.close()
        assert len(shown) == 4
        assert all(source.endswith(".dark.svg") == dark for source in shown)
