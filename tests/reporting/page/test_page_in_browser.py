"""Protects the page as readers meet it: in a real browser, from the file system, offline."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ademvl.errors import TrainingError
from ademvl.runs.failures import noted_failure
from tests.reporting.page.browser import Visit, load_everything, visit
from tests.reporting.page.page_study import (
    CAPTIONS,
    HOSTILE,
    QUESTIONS,
    answered_study,
    make_page,
)
from tests.reporting.synthetic import SyntheticStudy

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


def _await_count(page: "Page", browser: str, text: str) -> None:
    from playwright.sync_api import expect

    expect(page.locator(f"{browser} .count")).to_have_text(text)


def _choose(page: "Page", browser: str, **values: str) -> None:
    for name, value in values.items():
        page.select_option(f"{browser} select[name='{name.replace('_', '-')}']", value)


def test_nothing_goes_wrong_and_nothing_leaves_the_machine(opened: Visit, page_file: Path) -> None:
    broken = opened.page.evaluate(
        "[...document.images].filter((image) => !image.naturalWidth).map((image) => image.src)"
    )
    pictures = opened.page.evaluate("document.images.length")
    assert opened.complaints == []
    assert broken == []
    assert pictures == 2 * 4 + 1 + 13 + 6  # figures light and dark, fusion map, images of answers
    assert len(opened.requests) > pictures
    assert all(url.startswith(page_file.parent.as_uri()) for url in opened.requests)


@pytest.mark.slow
def test_folder_can_be_moved(browser: "Browser", page_file: Path, tmp_path: Path) -> None:
    import shutil

    moved = tmp_path / "elsewhere and renamed"
    shutil.copytree(page_file.parent, moved)
    found = visit(browser, moved / "index.html")
    found.page.context.close()
    assert found.complaints == []
    assert all(url.startswith(moved.as_uri()) for url in found.requests)


def test_hostile_texts_do_nothing(browser: "Browser", tmp_path: Path) -> None:
    study = answered_study(tmp_path, text=HOSTILE)
    found = visit(browser, make_page(study))
    shown = found.page.inner_text("body")
    scripts = found.page.evaluate("[...document.scripts].map((script) => script.src)")
    strangers = found.page.evaluate("document.querySelectorAll('[onerror], img[src=x]').length")
    found.page.context.close()
    assert found.complaints == []
    assert strangers == 0
    assert len([source for source in scripts if source]) == 3
    assert shown.count("<script>alert(2)</script>") > 40
    assert "⟨U+202E⟩evil {{ 7 * 7 }}" in shown
    assert "\u202e" not in shown


def test_injected_scripts_are_refused(browser: "Browser", page_file: Path, tmp_path: Path) -> None:
    html = page_file.read_text(encoding="utf-8")
    attack = '<script>alert("inline")</script><script src="other.js"></script>'
    (tmp_path / "other.js").write_text('alert("file")')
    (tmp_path / "index.html").write_text(html.replace("</main>", f"{attack}</main>"))
    context = browser.new_context()
    page = context.new_page()
    dialogs: list[str] = []
    refused: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.on("console", lambda message: refused.append(message.text))
    page.goto((tmp_path / "index.html").as_uri())
    context.close()
    assert dialogs == []
    assert len([text for text in refused if "Content Security Policy" in text]) == 2


def test_tables_sort_by_number_and_by_name(page: "Page") -> None:
    def column(place: int) -> list[str]:
        cells = f"#accuracy table.mini tbody tr > :nth-child({place})"
        return [cell.inner_text().split("\n")[0] for cell in page.query_selector_all(cells)]

    headers = page.query_selector_all("#accuracy table.mini thead th[scope=col]")
    names = [header.inner_text() for header in headers]
    average, run = headers[names.index("AVG")], headers[0]
    before = column(1)
    average.click()
    assert average.get_attribute("aria-sort") == "ascending"
    values = [float(text) for text in column(names.index("AVG") + 1)]
    assert values == sorted(values)
    average.press("Enter")
    assert average.get_attribute("aria-sort") == "descending"
    assert [float(text) for text in column(names.index("AVG") + 1)] == values[::-1]
    run.click()
    assert column(1) == sorted(before)
    assert average.get_attribute("aria-sort") is None


def test_reported_rows_stay_in_their_groups(page: "Page") -> None:
    table = "#reported_accuracy table.paper"
    sections = page.eval_on_selector_all(
        f"{table} tr.section", "rows => rows.map(r => r.innerText)"
    )
    page.click(f"{table} thead th[scope=col] >> text=AVG")
    groups = page.eval_on_selector_all(
        f"{table} tbody", "bodies => bodies.map(body => body.rows[0].innerText)"
    )
    assert groups == sections


def test_questions_are_filtered_by_outcome_category_and_text(page: "Page") -> None:
    _await_count(page, QUESTIONS, "45 questions")
    _choose(page, QUESTIONS, first="0", first_is="wrong")
    _await_count(page, QUESTIONS, "9 of 45 questions")
    assert len(page.query_selector_all(f"{QUESTIONS} .item")) == 9
    _choose(page, QUESTIONS, first="0", first_is="right", second="2", second_is="wrong")
    _await_count(page, QUESTIONS, "18 of 45 questions")
    page.click(f"{QUESTIONS} button[type=reset]")
    _await_count(page, QUESTIONS, "45 questions")
    _choose(page, QUESTIONS, outcome="none")
    _await_count(page, QUESTIONS, "5 of 45 questions")
    _choose(page, QUESTIONS, outcome="all", context="IMG", subject="NAT")
    _await_count(page, QUESTIONS, "15 of 45 questions")
    page.fill(f"{QUESTIONS} input[name=text]", "SQUARE 31")
    _await_count(page, QUESTIONS, "1 of 45 questions")
    assert page.text_content(f"{QUESTIONS} .item .about").startswith("31 · questions for a colour")
    marks = page.eval_on_selector_all(f"{QUESTIONS} h4 mark", "all => all.map(m => m.textContent)")
    assert marks == ["square"]


def test_only_answers_in_view_are_loaded(browser: "Browser", page_file: Path) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(page_file.as_uri())
    page.evaluate(f"document.querySelector('{QUESTIONS}').scrollIntoView()")
    page.wait_for_selector(f"{QUESTIONS} .item")
    loaded = page.evaluate("[...document.scripts].filter((s) => s.src).map((s) => s.src)")
    page.close()
    assert f"{QUESTIONS[1:]}.js" in "".join(loaded)
    assert f"{CAPTIONS[1:]}.js" not in "".join(loaded)


def test_seeds_that_gave_the_same_share_a_row(page: "Page") -> None:
    rows = f"{QUESTIONS} .item:first-child tbody"
    names = page.eval_on_selector_all(f"{rows} th", "all => all.map((cell) => cell.textContent)")
    assert len(names) == 2
    assert names[0].endswith(", 2 seeds")
    right = page.eval_on_selector_all(
        f"{QUESTIONS} .item tbody .badge", "all => all.map((one) => one.textContent)"
    )
    assert {text.split(", ")[1] for text in right} == {"right", "wrong"}


def test_every_filter_has_a_name_of_its_own(page: "Page") -> None:
    names = page.eval_on_selector_all(
        f"{QUESTIONS} .field > span", "all => all.map((name) => name.textContent)"
    )
    assert "Kind" in names
    assert len(set(names)) == len(names)


def test_pages_turn_and_keyboard_reaches_the_first_item(page: "Page") -> None:
    first = page.text_content(f"{QUESTIONS} .item .about")
    page.click(f"{QUESTIONS} .pager >> text=Next")
    assert "Page 2 of 3" in page.inner_text(f"{QUESTIONS} .pager")
    assert page.text_content(f"{QUESTIONS} .item .about") != first
    assert page.evaluate("document.activeElement.className") == "item"


def test_captions_are_searched_and_ordered(page: "Page") -> None:
    page.fill(f"{CAPTIONS} input[name=text]", "square 3")
    _await_count(page, CAPTIONS, "1 of 6 images")
    assert page.text_content(f"{CAPTIONS} .item h4") == "Image 3"
    assert "square 3" in page.text_content(f"{CAPTIONS} .references")


def test_theme_is_chosen_and_kept(page: "Page") -> None:
    def colour() -> str:
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light = colour()
    for name in ("light", "dark"):
        page.click("#theme")
        assert page.inner_text("#theme") == f"Theme: {name}"
    dark = colour()
    assert dark != light
    page.reload()
    assert colour() == dark
    load_everything(page)
    page.click("#theme")
    assert colour() == light


def test_link_into_a_closed_part_opens_it(browser: "Browser", page_file: Path) -> None:
    page = browser.new_page()
    page.goto(page_file.as_uri())
    assert not page.is_visible("#reported_mme table")
    page.click("nav >> text=Reported by others")
    page.wait_for_selector("#reported_mme table", state="visible")
    page.close()


def test_partial_study_says_what_is_missing_and_why(browser: "Browser", tmp_path: Path) -> None:
    study = SyntheticStudy(tmp_path)
    study.raw["runs"]["broken"] = {"label": "broken run"}
    study.raw["runs"]["begun"] = {"label": "begun run"}
    study.finish_scienceqa("adem", {"IMG": (150, 200), "AVG": (250, 300)}, seed=0)
    study.finish_scienceqa("text_only", {"IMG": (80, 200), "AVG": (170, 300)})
    study.raw["runs"]["text_only"]["method"] = {"gamma": 0.3}
    with pytest.raises(TrainingError), noted_failure(study.run_dir("broken"), "train"):
        raise TrainingError("step 7: the loss is not finite")
    begun = study.finish_scienceqa("begun", {"AVG": (1, 2)})
    (begun / "scores/scienceqa.json").unlink()
    found = visit(browser, make_page(study), width=360)
    rows = found.page.eval_on_selector_all(
        "#overview tbody tr", "rows => rows.map((row) => row.innerText.replace(/\\s+/g, ' '))"
    )
    overview = found.page.inner_text("#overview")
    accuracy = found.page.inner_text("#accuracy")
    shown_width = found.page.evaluate("document.documentElement.scrollWidth")
    found.page.context.close()
    assert shown_width == 360
    assert found.complaints == []
    assert "Incomplete: 5 of 5 runs" in overview
    assert "No runs have been compared with each other yet." in overview
    partly, stale, broken, begun_row, captions = rows
    assert "1 of 2" in partly
    assert "83.33" in partly
    assert "stale made with other settings" in stale
    assert "method.gamma 0.1 instead of 0.3" in stale
    assert "not run" in captions
    assert "failed ademvl train failed: step 7: the loss is not finite" in broken
    assert "unfinished" in begun_row
    assert all(word in accuracy for word in ("stale", "failed", "unfinished"))
    assert "56.67" not in accuracy  # the stale control's average
