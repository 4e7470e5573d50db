"""Protects the tables: which numbers stand where, honest gaps, stable bytes, golden text."""

import csv
import io
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from ademvl.reporting.printable import printable
from ademvl.reporting.reported import ReportedNumbers, load_reported
from ademvl.reporting.results import read_results
from ademvl.reporting.tables.build import write_tables
from ademvl.reporting.tables.keys import COST_KEYS, TABLE_KEYS, TABLE_SUFFIXES
from ademvl.reporting.tables.latex import escape_latex, to_latex
from ademvl.reporting.tables.layout import Cell, Table
from ademvl.reporting.tables.markdown import to_markdown
from ademvl.reporting.tables.scores import score_table
from ademvl.reporting.tables.tidy_csv import CSV_COLUMNS, to_csv
from ademvl.statistics.intervals import wilson_interval
from tests.reporting.conftest import finish
from tests.reporting.synthetic import SyntheticStudy

REPORTED_DIR = Path(__file__).resolve().parents[3] / "workflow" / "reported"
GOLDEN_DIR = Path(__file__).parent / "golden"
BUILDERS = {
    "accuracy": partial(score_table, task="scienceqa"),
    "captions": partial(score_table, task="coco_caption"),
}

SMALL_TABLES = """
scienceqa_test:
  title: ScienceQA
  unit: percent
  n: 100
  columns: [nat, soc, lan, txt, img, "no", g1_6, g7_12, avg]
  decimals: [2, 2, 2, 2, 2, 2, 2, 2, 2]
  rows:
    - method: A & B
      llm: LLaMA-7B
      trainable: 4.5M
      values: [90.00, 80.00, 70.00, 60.00, null, 40.00, 30.00, 20.00, 50.00]
      source: paper
      note: a remark
coco_caption_karpathy_test:
  title: COCO captions
  unit: times_100
  columns: [bleu4, cider]
  decimals: [1, 1]
  rows:
    - {method: A & B, values: [38.5, 133.2], source: paper}
"""
SMALL_DISCREPANCY = (
    (
        "[{where: elsewhere, says: 1, source_says: 2, source: paper, "
        "table: coco_caption_karpathy_test, rows: [{method: A & B}]}]"
    )
    .replace("says: 1", "says: one_1")
    .replace("source_says: 2", "source_says: two")
)


@pytest.fixture
def reported(tmp_path: Path) -> ReportedNumbers:
    folder = tmp_path / "reported"
    folder.mkdir()
    (folder / "sources.yaml").write_text("paper: {title: A paper}\n")
    (folder / "discrepancies.yaml").write_text(SMALL_DISCREPANCY)
    (folder / "tables.yaml").write_text(SMALL_TABLES)
    return load_reported(folder)


def _lines(table: Table) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(to_csv(table))))


def _value(table: Table, key: str, column: str) -> dict[str, str]:
    (line,) = (line for line in _lines(table) if (line["key"], line["column"]) == (key, column))
    return line


@pytest.mark.parametrize("suffix", ["md", "tex", "csv"])
@pytest.mark.parametrize("key", list(BUILDERS))
def test_rendered_table_is_the_golden_text(
    finished: SyntheticStudy,
    reported: ReportedNumbers,
    key: str,
    suffix: str,
    pytestconfig: pytest.Config,
) -> None:
    table = BUILDERS[key](read_results(finished.study), reported)
    text = {"md": to_markdown, "tex": to_latex, "csv": to_csv}[suffix](table)
    golden = GOLDEN_DIR / f"{key}.{suffix}"
    if pytestconfig.getoption("--update-golden"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "label",
    [
        '=HYPERLINK("http://example.invalid", "y")',
        "+1+1",
        "-2",
        "@SUM(A1)",
        "\t=1",
        "＝1",
        "\u200b=1",
    ],
)
def test_texts_that_spreadsheets_would_run_are_quoted_in_csv(
    synthetic: SyntheticStudy, reported: ReportedNumbers, label: str
) -> None:
    """Also behind blanks, and behind characters without a shape."""
    synthetic.raw["runs"]["adem"]["label"] = label
    finish(synthetic)
    cells = [
        cell
        for line in _lines(BUILDERS["accuracy"](read_results(synthetic.study), reported))
        for name, cell in line.items()
        if name not in ("value", "ci_low", "ci_high")
    ]
    assert f"'{printable(label)}" in cells
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "＝"))]


def test_negative_numbers_stay_numbers_in_csv(
    finished: SyntheticStudy, reported: ReportedNumbers
) -> None:
    table = BUILDERS["captions"](read_results(finished.study), reported)
    (block, *others), column = table.blocks, table.blocks[0].columns[0]
    (section,) = block.sections
    row = replace(section.rows[0], cells={column.key: Cell(value=-1.5, ci_low=-2.0)})
    changed = replace(block, sections=(replace(section, rows=(row,)),))
    line = _lines(replace(table, blocks=(changed, *others)))[0]
    assert (line["value"], line["ci_low"]) == ("-1.5", "-2.0")


def test_texts_stand_in_csv_as_they_are(
    finished: SyntheticStudy, reported: ReportedNumbers
) -> None:
    table = BUILDERS["captions"](read_results(finished.study), reported)
    lines = _lines(replace(table, key="nan", unit='a "b", c\nd'))
    assert {(line["table"], line["unit"]) for line in lines} == {("nan", 'a "b", c\nd')}
    expected = io.StringIO()
    writer = csv.DictWriter(expected, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_lines(table))
    assert to_csv(table) == expected.getvalue()
    assert to_csv(replace(table, blocks=())) == ",".join(CSV_COLUMNS) + "\n"


def test_mini_numbers_never_share_a_block_with_paper_scale(
    finished: SyntheticStudy, reported: ReportedNumbers
) -> None:
    for build in BUILDERS.values():
        table = build(read_results(finished.study), reported)
        for block in table.blocks:
            kinds = {row.kind for row in block.rows}
            assert (kinds == {"reported"}) == (block.scale == "paper")
        scales = {line["scale"] for line in _lines(table) if line["kind"] == "reported"}
        assert scales == {"paper"}


def test_paper_scale_study_stands_beside_the_reported_rows(
    finished_at_paper_scale: SyntheticStudy, reported: ReportedNumbers
) -> None:
    (block,) = BUILDERS["accuracy"](read_results(finished_at_paper_scale.study), reported).blocks
    assert [row.kind for row in block.rows] == ["measured", "measured", "reported"]
    assert block.lead_headers[0] == "run or method"


def test_differing_n_is_printed_in_the_cells(
    finished_at_paper_scale: SyntheticStudy, reported: ReportedNumbers
) -> None:
    text = to_markdown(BUILDERS["accuracy"](read_results(finished_at_paper_scale.study), reported))
    assert "(n = 300)" in text  # AVG: measured on 300, reported on 100
    assert "(n = 100)" in text


def test_run_that_was_not_run_says_so(synthetic: SyntheticStudy, reported: ReportedNumbers) -> None:
    synthetic.finish_scienceqa("adem", {"AVG": (9, 10)})
    table = BUILDERS["accuracy"](read_results(synthetic.study), reported)
    assert _value(table, "text_only", "avg")["state"] == "not run"
    assert _value(table, "text_only", "avg")["value"] == ""
    text = to_markdown(table)
    (line,) = (line for line in text.splitlines() if "text-only control" in line)
    assert " not run " in line
    assert line.count("–") == 9
    assert "Not run yet: seed 1." in text


def test_stale_run_is_left_out_with_a_footnote(
    finished: SyntheticStudy, reported: ReportedNumbers
) -> None:
    finished.raw["runs"]["text_only"]["optimization"] = {"epochs": 3.0}
    table = BUILDERS["accuracy"](read_results(finished.study), reported)
    assert _value(table, "text_only", "avg")["value"] == ""
    assert "made with other settings" in to_markdown(table)


def test_column_without_questions_is_a_dash(
    finished: SyntheticStudy, reported: ReportedNumbers
) -> None:
    table = BUILDERS["accuracy"](read_results(finished.study), reported)
    row = table.blocks[0].rows[0]
    (column,) = (column for column in table.blocks[0].columns if column.key == "soc")
    assert column.format(row.cell(column).value) == "–"
    assert _value(table, "adem", "soc")["n"] == ""


def test_reported_average_gets_its_derived_interval(
    finished: SyntheticStudy, reported: ReportedNumbers
) -> None:
    line = _value(
        BUILDERS["accuracy"](read_results(finished.study), reported), "A & B, LLaMA-7B", "avg"
    )
    expected = wilson_interval(50, 100)
    assert float(line["ci_low"]) == pytest.approx(100 * expected.ci_low, abs=1e-5)
    assert "derived" in line["ci_method"]


def test_captions_end_with_their_ceiling(
    finished: SyntheticStudy, reported: ReportedNumbers
) -> None:
    table = BUILDERS["captions"](read_results(finished.study), reported)
    assert [row.kind for row in table.blocks[0].rows] == ["measured", "ceiling"]
    assert float(_value(table, "ceiling_captions", "bleu4")["value"]) == pytest.approx(95)


def test_label_after_a_line_end_is_no_latex_option() -> None:
    assert escape_latex("[2cm] *") == "{[}2cm] {*}"


def test_characters_that_pdflatex_lacks_are_math_or_their_codes() -> None:
    assert escape_latex("γ = 0.3 → 0.5") == r"$\gamma$ = 0.3 $\to$ 0.5"
    assert escape_latex("café e\u0301 中") == "café é {[}U+4E2D]"


def test_hostile_labels_stay_text(finished: SyntheticStudy, reported: ReportedNumbers) -> None:
    finished.raw["runs"]["adem"]["label"] = "a|b <i>_x_</i> 50% & \\input{x} \u202e\n#1"
    table = BUILDERS["accuracy"](read_results(finished.study), reported)
    markdown, latex = to_markdown(table), to_latex(table)
    assert r"a\|b \<i\>\_x\_\</i\> 50% &amp; \\input\{x\} \#1" in markdown
    assert (
        r"a|b \textless{}i\textgreater{}\_x\_\textless{}/i\textgreater{} 50\% \& "
        r"\textbackslash{}input\{x\} \#1"
    ) in latex
    assert "\u202e" not in markdown + latex


def test_written_files_are_the_same_bytes_every_time(finished: SyntheticStudy) -> None:
    output = finished.study.results_dir / "tables"
    contents = []
    for _ in range(2):
        write_tables(finished.study, output)
        contents.append({path.name: path.read_bytes() for path in sorted(output.iterdir())})
    assert contents[0] == contents[1]
    assert set(contents[0]) == {
        f"{key}.{suffix}" for key in TABLE_KEYS for suffix in TABLE_SUFFIXES
    }


def test_tables_of_scores_do_not_depend_on_what_training_took(finished: SyntheticStudy) -> None:
    output = finished.study.results_dir / "tables"
    contents = []
    for seconds, speed in (("61.5", "10.0"), ("99.9", "3.3")):
        for path in finished.study.results_dir.glob("runs/*/*/provenance.json"):
            path.write_text(path.read_text().replace("61.5", seconds))
        for path in finished.study.results_dir.glob("runs/*/*/metrics.csv"):
            path.write_text(path.read_text().replace("10.0", speed))
        write_tables(finished.study, output)
        contents.append({path.name: path.read_bytes() for path in output.iterdir()})
    changed = {
        name.partition(".")[0] for name in contents[0] if contents[0][name] != contents[1][name]
    }
    assert changed == set(COST_KEYS)  # the study has one method
