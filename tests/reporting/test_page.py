"""Protects the page: self-contained, accessible tables, data that stays text, honest gaps."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

from ademvl.reporting.figures import write_figures
from ademvl.reporting.page import flatten, write_page
from tests.reporting.synthetic import SyntheticStudy

REPORTED_DIR = Path(__file__).resolve().parents[2] / "workflow" / "reported"
VOID_TAGS = {"meta", "img", "link", "br", "hr", "input"}
HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script> \u202eevil {{ 7 * 7 }}'


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
    write_page(synthetic.study, output, reported_dir=REPORTED_DIR)
    html = (output / "index.html").read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(html)
    return html, reader


def _with_fusion_map(synthetic: SyntheticStudy, question: str) -> None:
    folder = synthetic.run_dir("adem") / "fusion_maps"
    folder.mkdir()
    (folder / "item_1.png").write_bytes(b"\x89PNG")
    item = {"picture": "item_1.png", "question": question, "answer": "red"}
    item["words"] = [{"word": "colour"}]  # type: ignore[assignment]
    (folder / "fusion_maps.json").write_text(json.dumps({"items": [item]}))


def test_page_loads_nothing_and_runs_nothing(finished: SyntheticStudy) -> None:
    write_figures(finished.study, finished.study.results_dir / "figures")
    _with_fusion_map(finished, "What colour?")
    html, reader = _page(finished)
    sources = [attributes["src"] or "" for attributes in reader.all("img")]
    assert len(sources) == 3
    assert all(source.startswith("data:image/") for source in sources)
    assert not reader.all("script")
    assert not reader.all("link")
    assert "url(" not in html
    assert all((a["href"] or "").startswith("#") for a in reader.all("a"))


def test_policy_allows_the_style_and_no_script(finished: SyntheticStudy) -> None:
    html, reader = _page(finished)
    (policy,) = (meta["content"] or "" for meta in reader.all("meta") if meta.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy


def test_hostile_texts_stay_text(finished: SyntheticStudy) -> None:
    finished.raw["runs"]["adem"]["label"] = HOSTILE
    finished.raw["column_notes"] = {"nat": HOSTILE}
    _with_fusion_map(finished, HOSTILE)
    path = finished.run_dir("adem") / "provenance.json"
    provenance = json.loads(path.read_text())
    path.write_text(json.dumps({**provenance, "hardware": {"cpu": HOSTILE}}))
    html, reader = _page(finished)
    assert not reader.all("script")
    assert all("onerror" not in attributes for _, attributes in reader.tags)
    assert "\u202e" not in html
    assert "{{ 7 * 7 }}" in reader.text


def test_anchors_are_unique_and_every_link_has_its_target(finished: SyntheticStudy) -> None:
    _, reader = _page(finished)
    anchors = [str(attributes["id"]) for _, attributes in reader.tags if attributes.get("id")]
    assert len(anchors) == len(set(anchors))
    assert {str(a["href"])[1:] for a in reader.all("a")} <= set(anchors)


def test_tables_tell_screen_readers_what_is_what(finished: SyntheticStudy) -> None:
    _, reader = _page(finished)
    assert len(reader.all("caption")) == len(reader.all("table"))
    assert all(header.get("scope") for header in reader.all("th"))
    assert all(image.get("alt") for image in reader.all("img"))


def test_empty_study_says_not_run(synthetic: SyntheticStudy) -> None:
    _, reader = _page(synthetic)
    assert "No run has been compared" in reader.text
    assert "Not drawn yet." in reader.text
    assert "text-only control (scienceqa): not run" in reader.text


def test_headline_stands_on_the_page(finished: SyntheticStudy) -> None:
    _, reader = _page(finished)
    assert "+47.5 points" in reader.text


def test_same_results_give_the_same_page(finished: SyntheticStudy) -> None:
    assert _page(finished)[0] == _page(finished)[0]


def test_flatten_joins_keys() -> None:
    content = {"usage": {"wall_seconds": 1.5}, "gpus": [], "code": "x"}
    assert list(flatten(content)) == [("usage.wall_seconds", "1.5"), ("gpus", "[]"), ("code", "x")]
