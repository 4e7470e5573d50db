"""Protects the transcription of reported numbers: every value, row, source and footnote."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from ademvl.config.study import Study, load_study
from ademvl.config.study_settings import ReportedReference
from ademvl.errors import DataError, SettingsError
from ademvl.reporting.references import check_references
from ademvl.reporting.reported import ReportedNumbers, load_reported
from tests.conftest import PROJECT_ROOT

REPORTED_DIR = Path(__file__).resolve().parents[2] / "workflow" / "reported"
ROW_KEYS = ("group", "peft", "llm", "trainable", "source", "note")
NOT_SETTINGS = {*ROW_KEYS, "method", "values", "avg"}


@pytest.fixture(scope="module")
def numbers() -> ReportedNumbers:
    return load_reported(REPORTED_DIR)


@pytest.fixture(scope="module")
def transcribed(shared_dir: Path) -> Mapping[str, Any]:
    path = shared_dir / "reported.yaml"
    if not path.is_file():
        pytest.skip(f"reference data not found: {path}")
    raw: Mapping[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return raw


def _tables(raw: Mapping[str, Any]) -> dict[str, tuple[list[str], list[dict[str, Any]]]]:
    """Columns and rows of each table; lists of rows with `avg` are tables of one column."""
    found = {}
    for key, table in raw.items():
        if key in ("sources", "discrepancies"):
            continue
        if isinstance(table, dict):
            columns, rows = table["columns"], table["rows"]
        else:
            rows = table
            columns = raw["scienceqa_test"]["columns"] if "values" in rows[0] else ["avg"]
        # YAML 1.1 reads a bare `no` as false.
        found[key] = (["no" if column is False else column for column in columns], rows)
    return found


def _method(row: dict[str, Any]) -> str:
    """Join a name that an unquoted comma cut: its tail became a key without value."""
    name = row.get("method") or row.get("setting") or row.get("name") or ""
    tails = [key for key in row if key.endswith(")") and row[key] is None]
    return ", ".join([name, *tails])


def test_every_number_equals_the_transcription(
    numbers: ReportedNumbers, transcribed: Mapping[str, Any]
) -> None:
    expected = {
        (table, index, column): value
        for table, (columns, rows) in _tables(transcribed).items()
        for index, row in enumerate(rows)
        for column, value in zip(columns, row.get("values", [row.get("avg")]), strict=True)
    }
    found = {
        (key, index, column): value
        for key, table in numbers.tables.items()
        for index, row in enumerate(table.rows)
        for column, value in zip(table.columns, row.values, strict=True)
    }
    assert found == expected
    assert len(found) > 300


def test_every_row_keeps_its_name_source_and_remarks(
    numbers: ReportedNumbers, transcribed: Mapping[str, Any]
) -> None:
    for key, (_, rows) in _tables(transcribed).items():
        for row, expected in zip(numbers.tables[key].rows, rows, strict=True):
            assert row.method == _method(expected)
            for name in ROW_KEYS:
                assert (getattr(row, name) or None) == expected.get(name)
            names = {"setting", "name", *(k for k in expected if k.endswith(")"))}
            settings = {k: v for k, v in expected.items() if k not in NOT_SETTINGS | names}
            found = {k: list(v) if isinstance(v, tuple) else v for k, v in row.settings.items()}
            assert found == settings


def test_sources_and_discrepancies_equal_the_transcription(
    numbers: ReportedNumbers, transcribed: Mapping[str, Any]
) -> None:
    for key, fields in transcribed["sources"].items():
        assert {name: getattr(numbers.sources[key], name) for name in fields} == fields
    found = [
        {"where": d.where, "says": d.says, "source_says": d.source_says, "source": d.source}
        for d in numbers.discrepancies
    ]
    assert found == transcribed["discrepancies"]


def test_numbers_have_the_decimals_of_the_transcription(
    numbers: ReportedNumbers, shared_dir: Path, transcribed: Mapping[str, Any]
) -> None:
    text = (shared_dir / "reported.yaml").read_text(encoding="utf-8")
    as_text = yaml.load(text, Loader=yaml.BaseLoader)
    for key, (columns, rows) in _tables(as_text).items():
        table = numbers.tables[key]
        for row, expected in zip(table.rows, rows, strict=True):
            printed = zip(columns, expected.get("values", [expected.get("avg")]), strict=True)
            for column, number in printed:
                if number != "null":
                    decimals = len(number.partition(".")[2])
                    assert table.decimals_of(row, column) == decimals, (key, row.name, column)


def test_discrepancy_reaches_only_the_rows_it_names(numbers: ReportedNumbers) -> None:
    rows = numbers.tables["scienceqa_test"].rows
    touched = [
        (row.method, row.llm) for row in rows if numbers.discrepancies_at("scienceqa_test", row)
    ]
    assert ("ADEM-VL", "LLaMA-7B") in touched
    assert ("ADEM-VL", "LLaMA-13B") not in touched


def _study(*references: tuple[str, str]) -> Study:
    entries = [{"table": table, "row": row} for table, row in references]
    return load_study(
        {
            "study": "tiny",
            "datasets": {"shapes": {"source": "easy_vqa"}},
            "runs": {"adem": {"dataset": "shapes", "reported": entries}},
        }
    )


def test_every_row_can_be_referred_to(numbers: ReportedNumbers) -> None:
    rows = [(key, row) for key, table in numbers.tables.items() for row in table.rows]
    check_references(_study(*((key, row.name) for key, row in rows)), numbers)
    for key, row in rows:
        assert numbers.find(ReportedReference(table=key, row=row.name)) is row


@pytest.mark.parametrize("path", sorted((PROJECT_ROOT / "workflow/studies").glob("*.yaml")))
def test_studies_refer_to_rows_that_exist(path: Path, numbers: ReportedNumbers) -> None:
    check_references(load_study(path), numbers)


def test_reference_to_nothing_names_run_and_nearest(numbers: ReportedNumbers) -> None:
    study = _study(
        ("scienceqa_test", "ADEM-VL, LLaMA-7B"),
        ("scienceqa_test", "ADEM-VL, LLaMA-8B"),
        ("ablation_projektion", "phi: silu"),
        ("ablation_visual_input", "visual_tokens: 0, cls: False"),
    )
    with pytest.raises(SettingsError) as error:
        check_references(study, numbers)
    message = str(error.value)
    assert "runs.adem.reported.0" not in message
    assert "runs.adem.reported.1.row: 'ADEM-VL, LLaMA-8B' is not in scienceqa_test" in message
    assert "nearest: ADEM-VL, LLaMA-7B" in message
    assert "runs.adem.reported.2.table: 'ablation_projektion'" in message
    assert "nearest: ablation_projection" in message
    assert "nearest: visual_tokens: 0, cls: false" in message


def _write(folder: Path, table: str, discrepancies: str = "[]") -> Path:
    (folder / "sources.yaml").write_text("paper: {title: A paper}\n")
    (folder / "discrepancies.yaml").write_text(discrepancies)
    (folder / "small.yaml").write_text(table)
    return folder


TABLE = """
small:
  title: Small
  unit: percent
  columns: [avg]
  decimals: [2]
  rows:
    - {{{row}}}
"""


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("method: A, values: [1.0, 2.0], source: paper", "2 values for 1 columns"),
        ("method: A, values: [1.0], decimals: [1, 1], source: paper", "2 decimals for 1 columns"),
        ("method: A, values: [1.0], source: rumour", "'rumour' is not in sources.yaml"),
        ("method: A, values: [101.0], source: paper", "101.0 is no percentage"),
        ("values: [1.0], source: paper", "neither method nor settings"),
        ("method: A, value: [1.0], source: paper", "unknown key"),
        ("method: A, values: [one], source: paper", "'one'"),
        ("method: A, method: B, values: [1.0], source: paper", "occurs twice"),
    ],
)
def test_malformed_row_is_refused(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(DataError, match=r"small") as error:
        load_reported(_write(tmp_path, TABLE.format(row=row)))
    assert message in str(error.value)


def test_two_rows_of_one_name_are_refused(tmp_path: Path) -> None:
    row = "method: A, values: [1.0], source: paper"
    with pytest.raises(DataError, match="small: two rows 'A'"):
        load_reported(_write(tmp_path, TABLE.format(row=row) + f"    - {{{row}}}\n"))


def test_discrepancy_about_an_absent_row_is_refused(tmp_path: Path) -> None:
    good = TABLE.format(row="method: A, values: [1.0], source: paper")
    entry = (
        "[{where: w, says: s, source_says: t, source: paper, table: small, rows: [{method: B}]}]"
    )
    with pytest.raises(DataError, match="no row 'B'"):
        load_reported(_write(tmp_path, good, entry))


def test_absent_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"discrepancies\.yaml, sources\.yaml missing"):
        load_reported(tmp_path / "nowhere")
