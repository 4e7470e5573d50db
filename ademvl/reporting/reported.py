"""Numbers that others have reported, read strictly from `workflow/reported/`, each with its source.

Nothing here is measured, and nothing is corrected: where sources disagree, the number of the named
source is kept and a `Discrepancy` says so.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ademvl.config.reading import read
from ademvl.config.setting import record_class
from ademvl.config.strict_yaml import load_yaml
from ademvl.config.study_settings import ReportedReference
from ademvl.errors import DataError, SettingsError, list_findings
from ademvl.storage.project import PROJECT

REPORTED_DIR = PROJECT / "workflow" / "reported"
_REMEDY = "Restore the file from the project's repository."


@record_class
class Source:
    """Where reported numbers come from.

    Attributes:
        title: of a paper or report.
        arxiv: identifier with version.
        year: of publication.
        journal_doi: of the journal's version.
        repository: owner/name on GitHub.
        section, file, cell: place inside the repository.
    """

    title: str = ""
    arxiv: str = ""
    year: int | None = None
    journal_doi: str = ""
    repository: str = ""
    section: str = ""
    file: str = ""
    cell: str = ""

    @property
    def citation(self) -> str:
        """One line that lets a reader find the source."""
        parts = [
            self.title,
            f"arXiv {self.arxiv}" if self.arxiv else "",
            f"github.com/{self.repository}" if self.repository else "",
            self.section,
            self.file,
            self.cell,
        ]
        return ", ".join(part for part in parts if part)


@record_class
class ReportedRow:
    """One printed row.

    Attributes:
        values: one number for each column of the table; null where none was printed.
        source: key of the source.
        method: name as printed; empty where `settings` name the row.
        settings: what the row varies, for ablations and experiments.
        group: block of the printed table.
        peft: trained by a parameter-efficient method.
        llm: language model, where printed.
        trainable: number of trained parameters as printed, such as 4.5M.
        split: that was scored, where it is another one than the table's.
        note: remark on this row.
        decimals: of each value as printed, where they are not the table's.
    """

    values: tuple[float | None, ...]
    source: str
    method: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)
    group: str = ""
    peft: bool = False
    llm: str = ""
    trainable: str = ""
    split: str = ""
    note: str = ""
    decimals: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        """Name of the row: its method, or the settings that it varies."""
        return self.method or ", ".join(
            f"{key}: {_yaml_text(value)}" for key, value in self.settings.items()
        )

    @property
    def name(self) -> str:
        """Name of the row among all rows of its table: its label and language model."""
        return f"{self.label}, {self.llm}" if self.llm else self.label


@record_class
class ReportedTable:
    """One printed table.

    Attributes:
        title: what it shows.
        unit: `percent`, `times_100`, `points` or `mixed`.
        columns: keys of the columns.
        decimals: decimals of each column as printed.
        rows: in printed order.
        n: number of test items behind each average, where known.
        split: of the data that was scored; empty for benchmarks without splits.
        base: name of the row that changes are measured from; empty where there is none.
    """

    title: str
    unit: str
    columns: tuple[str, ...]
    decimals: tuple[int, ...]
    rows: tuple[ReportedRow, ...]
    n: int | None = None
    split: str = ""
    base: str = ""

    def value(self, row: ReportedRow, column: str) -> float | None:
        """Return the number of a row; None where there is none in that column."""
        return dict(zip(self.columns, row.values, strict=True)).get(column)

    def decimals_of(self, row: ReportedRow, column: str) -> int:
        """Return the decimals with which a row's number was printed."""
        return (row.decimals or self.decimals)[self.columns.index(column)]


@record_class
class RowReference:
    """Names rows of a table: those of a method, or of a method with one language model."""

    method: str
    llm: str = ""

    def matches(self, row: ReportedRow) -> bool:
        """Tell whether `row` is meant."""
        return row.method == self.method and self.llm in ("", row.llm)


@record_class
class Discrepancy:
    """A place where a text and its source disagree, printed as a footnote.

    Attributes:
        where: the text and the place in it.
        says: what stands there.
        source_says: what its source says.
        source: key of the source.
        table: key of the table that prints it as a footnote.
        rows: rows of that table that get the footnote; the table as a whole where there are none.
    """

    where: str
    says: str
    source_says: str
    source: str
    table: str
    rows: tuple[RowReference, ...] = ()


@dataclass(frozen=True)
class ReportedNumbers:
    """All reported tables with their sources and discrepancies."""

    sources: Mapping[str, Source]
    tables: Mapping[str, ReportedTable]
    discrepancies: tuple[Discrepancy, ...]

    def discrepancies_at(self, table: str, row: ReportedRow) -> tuple[Discrepancy, ...]:
        """Return the discrepancies that concern one row of a table."""
        return tuple(
            found
            for found in self.discrepancies
            if found.table == table and any(reference.matches(row) for reference in found.rows)
        )

    def find(self, reference: ReportedReference) -> ReportedRow:
        """Return the row that a study's run refers to.

        Raises:
            SettingsError: no such table or row; names the nearest.
        """
        table = self.tables.get(reference.table)
        if table is None:
            raise SettingsError(
                f"table: {reference.table!r} is not among the reported tables"
                f"{_nearest(reference.table, self.tables)}"
            )
        rows = {row.name: row for row in table.rows}
        if reference.row not in rows:
            raise SettingsError(
                f"row: {reference.row!r} is not in {reference.table}{_nearest(reference.row, rows)}"
            )
        return rows[reference.row]


def _yaml_text(value: object) -> str:
    """Write a setting as it stands in a YAML file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(str, value))}]"
    return str(value)


def _nearest(found: str, allowed: Iterable[str]) -> str:
    near = get_close_matches(found, list(allowed), n=3, cutoff=0.0)
    return f"; nearest: {' | '.join(near)}" if near else ""


Record = TypeVar("Record")


def load_reported(folder: Path = REPORTED_DIR) -> ReportedNumbers:
    """Read every table of a folder; `sources.yaml` and `discrepancies.yaml` are no tables.

    Raises:
        DataError: a missing or malformed file, an unknown key, a table that two files define, a
            row whose values do not match the columns, or a source or row that does not exist.
    """
    paths = sorted(folder.glob("*.yaml"))
    names = {path.name for path in paths}
    missing = sorted({"sources.yaml", "discrepancies.yaml"} - names)
    if missing:
        raise DataError(f"{folder}: {', '.join(missing)} missing. {_REMEDY}")
    sources = _read_records(folder / "sources.yaml", Source)
    raw_discrepancies = _read_yaml(folder / "discrepancies.yaml")
    if not isinstance(raw_discrepancies, list):
        raise DataError(f"{folder / 'discrepancies.yaml'}: expected a list. {_REMEDY}")
    discrepancies = tuple(
        _build(Discrepancy, raw, f"{folder / 'discrepancies.yaml'}, entry {index}")
        for index, raw in enumerate(raw_discrepancies, 1)
    )
    tables: dict[str, ReportedTable] = {}
    for path in paths:
        if path.name in ("sources.yaml", "discrepancies.yaml"):
            continue
        for key, table in _read_records(path, ReportedTable).items():
            if key in tables:
                raise DataError(f"{path}: table {key} is defined by another file too. {_REMEDY}")
            tables[key] = table
    numbers = ReportedNumbers(sources, tables, discrepancies)
    findings = [*_check_tables(numbers), *_check_discrepancies(numbers)]
    if findings:
        raise DataError(list_findings(f"{folder}: inconsistent numbers", findings, _REMEDY))
    return numbers


def _check_tables(numbers: ReportedNumbers) -> list[str]:
    findings = []
    for key, table in numbers.tables.items():
        if len(table.decimals) != len(table.columns):
            findings.append(
                f"{key}: {len(table.decimals)} decimals for {len(table.columns)} columns"
            )
        names = Counter(row.name for row in table.rows)
        findings += [f"{key}: two rows {name!r}" for name, count in names.items() if count > 1]
        if table.base and table.base not in names:
            findings.append(f"{key}: no row {table.base!r}, its base")
        for index, row in enumerate(table.rows, 1):
            where = f"{key}, row {index} ({row.label or 'unnamed'})"
            if not row.label:
                findings.append(f"{where}: neither method nor settings")
            expected = len(table.columns)
            if len(row.values) != expected:
                findings.append(f"{where}: {len(row.values)} values for {expected} columns")
            if row.decimals and len(row.decimals) != len(table.columns):
                findings.append(f"{where}: {len(row.decimals)} decimals for {expected} columns")
            if row.source not in numbers.sources:
                findings.append(f"{where}: source {row.source!r} is not in sources.yaml")
            if table.unit == "percent":
                outside = [v for v in row.values if v is not None and not 0 <= v <= 100]
                findings += [f"{where}: {value} is no percentage" for value in outside]
    return findings


def _check_discrepancies(numbers: ReportedNumbers) -> list[str]:
    findings = []
    for entry in numbers.discrepancies:
        if entry.source not in numbers.sources:
            findings.append(f"{entry.where}: source {entry.source!r} is not in sources.yaml")
        if entry.table not in numbers.tables:
            findings.append(f"{entry.where}: no table {entry.table!r}")
            continue
        rows = numbers.tables[entry.table].rows
        for reference in entry.rows:
            if not any(reference.matches(row) for row in rows):
                findings.append(f"{entry.where}: no row {reference.method!r} in {entry.table!r}")
    return findings


def _read_records(path: Path, kind: type[Record]) -> dict[str, Record]:
    raw = _read_yaml(path)
    if not isinstance(raw, dict):
        raise DataError(f"{path}: expected keys and values. {_REMEDY}")
    return {str(key): _build(kind, value, f"{path}, {key}") for key, value in raw.items()}


def _build(kind: type[Record], raw: object, where: str) -> Record:
    if not isinstance(raw, dict):
        raise DataError(f"{where}: expected keys and values, found {type(raw).__name__}. {_REMEDY}")
    try:
        return read(kind, raw, source=where, remedy=_REMEDY)
    except SettingsError as error:
        raise DataError(str(error)) from error


def _read_yaml(path: Path) -> Any:
    try:
        return load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). {_REMEDY}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not valid YAML: {error}. {_REMEDY}") from error
