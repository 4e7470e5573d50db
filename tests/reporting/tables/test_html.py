"""Protects the HTML of tables: semantic, sortable, escaped, with verdicts as text and class."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from ademvl.reporting.tables.html import to_html
from ademvl.reporting.tables.layout import Block, Cell, Column, Judgement, Row, Section, Table

HOSTILE = "<script>alert(1)</script> \"><img onerror='x'> \u202e{{ 7 * 7 }}"


@pytest.fixture
def table() -> Table:
    columns = (
        Column(key="img", header="IMG", decimals=2, group="context", note="Images of squares."),
        Column(key="avg", header="AVG", decimals=2),
    )
    judgement = Judgement(outcome="not-reproduced", words="not reproduced", difference=-1.25)
    measured = Row(
        key="adem",
        kind="measured",
        texts={"name": HOSTILE, "trainable": "86,528", "seeds": "0, 1"},
        cells={
            "img": Cell(missing="not run"),
            "avg": Cell(value=92.6, ci_low=91.0, ci_high=94.0, n=300, judgement=judgement),
        },
        notes=(HOSTILE,),
        state="1 of 2 seeds",
    )
    reported = Row(
        key="a",
        kind="reported",
        texts={"name": "A", "trainable": "4.5M"},
        cells={"avg": Cell(value=93.85)},
    )
    section = Section(title="Both", rows=(measured, reported))
    block = Block(title="Accuracy", scale="paper", columns=columns, sections=(section,))
    return Table(
        key="accuracy", title="Accuracy", short_title="Accuracy", unit="percent", blocks=(block,)
    )


def _parse(table: Table) -> ElementTree.Element:
    return ElementTree.fromstring(f"<div>{to_html(table)}</div>")


def _text(element: ElementTree.Element) -> str:
    return " ".join("".join(element.itertext()).split())


def test_every_header_cell_has_its_scope(table: Table) -> None:
    scopes = [header.get("scope") for header in _parse(table).iter("th")]
    assert None not in scopes
    assert {"col", "row", "colgroup", "rowgroup"} == set(scopes)


def test_cells_sort_by_their_number(table: Table) -> None:
    root = _parse(table)
    values = [cell.get("data-sort-value") for cell in root.iter("td") if cell.get("class")]
    assert [value for value in values if value is not None] == [
        "86528",
        "",
        "92.6",
        "4500000",
        "",
        "93.85",
    ]


def test_verdict_is_text_and_class(table: Table) -> None:
    (verdict,) = (e for e in _parse(table).iter("span") if "verdict" in str(e.get("class")))
    assert verdict.get("class") == "verdict not-reproduced"
    assert _text(verdict) == "not reproduced: −1.25"


def test_missing_number_says_why(table: Table) -> None:
    (missing,) = (e for e in _parse(table).iter("span") if e.get("class") == "missing")
    assert _text(missing) == "not run"


def test_footnotes_are_linked_once_each(table: Table) -> None:
    root = _parse(table)
    targets = [item.get("id") for item in root.iter("li")]
    assert [link.get("href") for link in root.iter("a")] == [f"#{target}" for target in targets]
    assert targets == ["accuracy-note-1", "accuracy-note-2"]


def test_hostile_texts_stay_text(table: Table) -> None:
    root = _parse(replace(table, notes=(HOSTILE,)))
    assert not [e for e in root.iter() if e.tag in ("script", "img")]
    assert sum(_text(e).startswith("<script>alert(1)</script>") for e in root.iter("li")) == 2
    assert "49" not in _text(root)
    assert "\u202e" not in to_html(table)
