"""Protects the page: nothing from elsewhere, accessible tables, texts that stay text, gaps."""

import base64
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ademvl.errors import DataError
from ademvl.reporting.figures.build import figures_of
from ademvl.reporting.page.scripts import visible_text, write_data_script
from ademvl.reporting.page.write import write_page
from ademvl.reporting.tables.build import write_tables
from tests.reporting.page.page_study import (
    HOSTILE,
    answered_study,
    fusion_maps,
    make_page,
    predict,
)
from tests.reporting.synthetic import SyntheticStudy

VOID_TAGS = {"meta", "img", "link", "br", "hr", "input"}


class Reader(HTMLParser):
    """Collects tags with attributes and text, and checks that tags are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID_TAGS:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def _page(synthetic: SyntheticStudy) -> tuple[str, Reader]:
    output = synthetic.study.results_dir / "report"
    write_page(synthetic.study, output)
    html = (output / "index.html").read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(html)
    return html, reader


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> SyntheticStudy:
    return answered_study(tmp_path_factory.mktemp("answered"))


def _data(page: Path, name: str) -> dict[str, object]:
    """Read a data file as the browser does."""
    text = (page.parent / "data" / name).read_text(encoding="ascii")
    call = re.fullmatch(r'ademvlReceive\("[^"]+",JSON\.parse\((".*")\)\);\n', text)
    assert call
    return json.loads(json.loads(call[1]))


def test_everything_that_the_page_names_lies_beside_it(answered: SyntheticStudy) -> None:
    page = make_page(answered)
    reader = Reader()
    reader.feed(page.read_text(encoding="utf-8"))
    sources = [str(attributes["src"]) for attributes in reader.all("img")]
    scripts = [str(a["data-script"]) for _, a in reader.tags if a.get("data-script")]
    assert len(sources) == 2 * len(figures_of(answered.study)) + 1  # and a fusion map
    assert len(scripts) == 3
    assert all((page.parent / name).is_file() for name in [*sources, *scripts])
    assert not reader.all("link")
    links = [str(a["href"]) for a in reader.all("a")]
    out = [link for link in links if link.startswith("https:")]
    beside = [link for link in links if not link.startswith(("#", "https:"))]
    assert out == ["https://arxiv.org/abs/2410.17779"]
    assert all((page.parent / link).is_file() for link in beside)


def test_policy_allows_the_pages_own_style_and_script_alone(finished: SyntheticStudy) -> None:
    html, reader = _page(finished)
    (policy,) = (meta["content"] or "" for meta in reader.all("meta") if meta.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "http" not in policy
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_hostile_texts_stay_text(tmp_path: Path) -> None:
    study = answered_study(tmp_path, text=HOSTILE)
    study.raw["column_notes"] = {"nat": HOSTILE}
    path = study.run_dir("adem") / "provenance.json"
    provenance = json.loads(path.read_text())
    path.write_text(json.dumps({**provenance, "hardware": {"cpu": HOSTILE}}))
    page = make_page(study)
    html = page.read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(html)
    assert len(reader.all("script")) == 1
    assert all("onerror" not in attributes for _, attributes in reader.tags)
    assert "{{ 7 * 7 }}" in reader.text
    for path in (page, *(page.parent / "data").iterdir()):
        text = path.read_text(encoding="utf-8")
        assert "\u202e" not in text
        assert not re.search(r"<script>alert|</script></script>", text)


def test_steps_that_a_training_left_out_stand_beside_its_scores(finished: SyntheticStudy) -> None:
    path = finished.run_dir("adem", 1) / "provenance.json"
    counts = {"steps": 80, "skipped_steps": 3}
    path.write_text(json.dumps({**json.loads(path.read_text()), **counts}))
    sentence = "The training of seed 1 left out 3 of 80 steps, as loss or gradient was not finite."
    _, reader = _page(finished)
    assert reader.text.count(sentence) == 3  # overview, scores and cost
    output = finished.study.results_dir / "tables"
    write_tables(finished.study, output)
    for name in ("accuracy", "cost"):
        assert (output / f"{name}.md").read_text(encoding="utf-8").count(sentence) == 1


def test_data_scripts_are_ascii_without_markup_and_keep_every_text(tmp_path: Path) -> None:
    content = {"text": "</script><!-- \u2028 \\ \" ' é 漢 \ud800"}
    write_data_script(tmp_path / "data" / "x.js", "x", content)
    raw = (tmp_path / "data" / "x.js").read_text(encoding="ascii")
    assert "<" not in raw
    assert _data(tmp_path / "index.html", "x.js") == content


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 漢\n\tline", "plain é 漢\n\tline"),
        ("a\u202eb\u0000c\u2028d", "a⟨U+202E⟩b⟨U+0000⟩c⟨U+2028⟩d"),
        ("\ud800", "⟨U+D800⟩"),
    ],
)
def test_hidden_characters_are_shown(text: str, shown: str) -> None:
    assert visible_text(text) == shown


def test_anchors_are_unique_and_every_link_has_its_target(finished: SyntheticStudy) -> None:
    _, reader = _page(finished)
    anchors = [str(attributes["id"]) for _, attributes in reader.tags if attributes.get("id")]
    assert len(anchors) == len(set(anchors))
    links = [str(a["href"]) for a in reader.all("a")]
    assert {link[1:] for link in links if link.startswith("#")} <= set(anchors)


def test_tables_tell_screen_readers_what_is_what(finished: SyntheticStudy) -> None:
    _, reader = _page(finished)
    deviations = 1  # its heading is the section's
    assert len(reader.all("caption")) == len(reader.all("table")) - deviations
    assert all(header.get("scope") for header in reader.all("th"))
    assert all(image.get("alt") for image in reader.all("img"))


def test_empty_study_says_not_run(synthetic: SyntheticStudy) -> None:
    _, reader = _page(synthetic)
    assert "No runs have been compared" in reader.text
    assert "3 of 3 runs lack scores" in reader.text
    assert "Nothing has been trained yet." in reader.text
    assert "text-only control (scienceqa), seed 0: not run" in reader.text
    assert not [a for _, a in reader.tags if a.get("data-script")]


def test_headline_stands_on_the_page(answered: SyntheticStudy) -> None:
    _, reader = _page(answered)
    assert "Do images help?" in reader.text
    assert "+30.00" in reader.text
    assert "cannot tell, one seed" in reader.text


def test_each_table_lies_beside_the_page_as_the_verb_writes_it(answered: SyntheticStudy) -> None:
    page = make_page(answered)
    folder = answered.study.results_dir / "tables"
    write_tables(answered.study, folder)
    beside = {path.name: path.read_bytes() for path in (page.parent / "tables").iterdir()}
    written = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert beside == {name: text for name, text in written.items() if not name.endswith(".html")}
    html = page.read_text(encoding="utf-8")
    assert all(f'href="tables/{name}"' in html for name in beside)


def test_what_others_reported_stands_in_one_folded_part(answered: SyntheticStudy) -> None:
    html = make_page(answered).read_text(encoding="utf-8")
    own, folded = html.split('<details id="reported">')
    folded, rest = folded.split("</details>", 1)
    assert 'tr class="reported"' not in own + rest
    assert 'tr class="measured"' not in folded
    assert 'tr class="measured"' in own
    titles = re.findall(r'<h4 id="reported_(\w+)-title">', folded)
    assert len(titles) == 13
    navigation = own[own.index("<nav") : own.index("</nav>")]
    assert not any(f"#reported_{title}" in navigation for title in titles)


def test_items_are_told_in_the_words_of_the_study(answered: SyntheticStudy) -> None:
    items = _data(make_page(answered), "scienceqa-shapes-test.js")["items"]
    assert "questions for a colour" in {item["about"].split(", ")[0] for item in items}


def test_overview_answers_questions_before_any_table(answered: SyntheticStudy) -> None:
    html = make_page(answered).read_text(encoding="utf-8")
    assert html.index("Do images help?") < html.index("<table")


def test_same_results_give_the_same_page(finished: SyntheticStudy) -> None:
    assert _page(finished)[0] == _page(finished)[0]


def test_page_can_be_made_again_and_keeps_nothing_of_the_earlier_one(tmp_path: Path) -> None:
    study = answered_study(tmp_path)
    page = make_page(study)
    before = {path.name for path in page.parent.rglob("*") if path.is_file()}
    stray = page.parent / "data" / "old.js"
    stray.write_text("")
    (page.parent / "images" / "old").mkdir()
    (page.parent / "images" / "old" / "1.webp").write_bytes(b"")
    make_page(study)
    assert {path.name for path in page.parent.rglob("*") if path.is_file()} == before


def test_page_that_cannot_be_finished_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = answered_study(tmp_path)
    page = make_page(study)
    before = page.stat().st_ino
    monkeypatch.setattr("ademvl.reporting.page.write.gather_facts", lambda results: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make_page(study)
    assert page.stat().st_ino == before
    shutil.rmtree(page.parent)
    with pytest.raises(ZeroDivisionError):
        make_page(study)
    assert not page.parent.exists()


def test_figures_are_of_the_scores_in_the_tables(tmp_path: Path) -> None:
    study = answered_study(tmp_path)
    figure = make_page(study).parent / "figures" / "accuracy_by_category.svg"
    before = figure.read_bytes()
    path = study.run_dir("text_only") / "predictions/scienceqa.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    predict(study, "text_only", [{**row, "predicted_index": 0} for row in rows])
    make_page(study)
    assert figure.read_bytes() != before


def test_every_item_is_there_with_all_answers(answered: SyntheticStudy) -> None:
    page = make_page(answered)
    data = _data(page, "scienceqa-shapes-test.js")
    labels = ["ADEM-VL, seed 0", "ADEM-VL, seed 1", "text-only control"]
    assert [run["label"] for run in data["runs"]] == labels
    items = data["items"]
    assert len(items) == 45
    first = items[0]
    assert first["chosen"] == [1 - first["answer"], 1 - first["answer"], -1]
    assert first["texts"] == ["AB"[1 - first["answer"]]] * 2 + ["?"]
    assert [data["categories"][i] for i in first["categories"]] == ["LAN", "TXT", "G1-6"]
    assert first["image"] is None
    assert not first["hasImage"]
    assert (page.parent / items[1]["image"][0]).is_file()
    ((prompt, runs),) = first["prompts"]
    assert runs == [0, 1, 2]
    assert prompt.endswith("Response:The answer is")


def test_captions_stand_with_their_references(answered: SyntheticStudy) -> None:
    data = _data(make_page(answered), "coco-caption-shapes-test.js")
    assert data["items"][2]["references"] == ["a square", "square 2"]
    assert data["items"][2]["captions"] == ["a red square"]
    assert data["items"][2]["texts"] == ["a picture of a red square"]


def test_missing_data_and_predictions_are_told_not_refused(tmp_path: Path) -> None:
    study = answered_study(tmp_path)
    (study.run_dir("adem", 1) / "predictions/scienceqa.jsonl").unlink()
    (tmp_path / "shared/data/shapes/coco_caption/karpathy/coco_karpathy_test.json").unlink()
    (tmp_path / "shared/data/shapes/scienceqa/images/test/16/image.png").unlink()
    html = make_page(study).read_text(encoding="utf-8")
    assert "ADEM-VL, seed 1: its predictions are not here" in html
    assert "The data set cannot be read here" in html
    assert "1 images could not be read" in html


def test_captions_of_other_images_are_told(tmp_path: Path) -> None:
    study = answered_study(tmp_path)
    predict(study, "captions", [{"id": "other", "text": "a square", "caption": "a square"}])
    html = make_page(study).read_text(encoding="utf-8")
    assert "its predictions are of other items than the data holds" in html


def test_malformed_predictions_are_refused_by_name(tmp_path: Path) -> None:
    study = answered_study(tmp_path)
    path = predict(study, "captions", [{"id": "0"}])
    with pytest.raises(DataError, match=re.escape(str(path))):
        make_page(study)


def test_malformed_fusion_maps_are_refused_by_name(tmp_path: Path) -> None:
    study = answered_study(tmp_path)
    path = study.run_dir("adem") / "fusion_maps" / "fusion_maps.json"
    path.write_text('{"items": [{}]}')
    with pytest.raises(DataError, match=re.escape(str(path))):
        make_page(study)


def test_fusion_maps_of_a_run_that_trains_again_are_left_out(tmp_path: Path) -> None:
    study = answered_study(tmp_path)
    fusion_maps(study, "adem", "Old question?")
    (study.run_dir("adem") / "adapter" / "adapter.json").unlink()
    assert "Old question?" not in make_page(study).read_text(encoding="utf-8")


def test_stale_fusion_maps_are_left_out(tmp_path: Path) -> None:
    study = answered_study(tmp_path)
    fusion_maps(study, "adem", "Old question?")
    study.raw["defaults"]["method"] = {"gamma": 0.5}
    html = make_page(study).read_text(encoding="utf-8")
    assert "Old question?" not in html
    assert "method.gamma 0.1 instead of 0.5" in html
