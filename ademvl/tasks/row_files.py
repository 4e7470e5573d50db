"""Reads files of predictions that others wrote: JSON, one object a line, or a table.

Tables are .tsv, .csv and .xlsx, of which the first sheet counts; their cells are texts. Rows of
blank cells are left out, as blank lines are.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ademvl.data.acquisition.zip_entries import ZipArchive
from ademvl.errors import DataError, ToolError, list_findings
from ademvl.storage.files import read_json_or_lines, read_text
from ademvl.storage.stand_ins import describe_stand_in

_DELIMITERS = {".tsv": "\t", ".csv": ","}
_START_CHARACTERS = 1000


def read_rows_or_json(path: Path, *, remedy: str) -> Any:
    """Return the rows of a table as objects of texts, and what any other file holds as JSON.

    Raises:
        DataError: missing or malformed file; names it, the place and `remedy`.
        ToolError: an .xlsx file, and openpyxl is not installed.
    """
    suffix = path.suffix.lower()
    if suffix == ".xlsx":
        return _objects(path, _workbook_rows(path, remedy), remedy)
    if suffix in _DELIMITERS:
        text = read_text(path, remedy=remedy)
        if what := describe_stand_in(text[:_START_CHARACTERS].encode("utf-8", "replace")):
            raise DataError(f"{path}: {what} {remedy}")
        try:
            rows = list(csv.reader(io.StringIO(text), delimiter=_DELIMITERS[suffix], strict=True))
        except csv.Error as error:
            raise DataError(f"{path}: not a table of {suffix[1:]} ({error}). {remedy}") from error
        return _objects(path, rows, remedy)
    return read_json_or_lines(path, remedy=remedy)


def single_value(value: object) -> object:
    """Return what lists of one entry hold: tools that may ask several times write `[["B"]]`."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value


def _workbook_rows(path: Path, remedy: str) -> list[list[str]]:
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        what = "openpyxl, which reads .xlsx, is not installed"
        raise ToolError(f"{path}: {what}: pip install 'ademvl[xlsx]'") from error
    with ZipArchive(path):  # refuses what is no honest archive before anything is unpacked
        pass
    try:
        workbook = load_workbook(path, read_only=True, data_only=True)
        try:
            sheet = workbook.worksheets[0]
            return [[_cell_text(cell) for cell in row] for row in sheet.iter_rows(values_only=True)]
        finally:
            workbook.close()
    except Exception as error:  # whatever a damaged part leads to: openpyxl has no error of its own
        what = f"cannot be read as .xlsx ({type(error).__name__}: {error})"
        raise DataError(f"{path}: {what}. {remedy}") from error


def _cell_text(cell: object) -> str:
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return "" if cell is None else str(cell)


def _objects(path: Path, rows: Iterable[Sequence[str]], remedy: str) -> list[dict[str, str]]:
    numbered = [
        (number, row)
        for number, row in enumerate(rows, start=1)
        if any(cell.strip() for cell in row)
    ]
    if not numbered:
        raise DataError(f"{path}: an empty table. {remedy}")
    (_, header), *body = numbered
    names = [name.strip() for name in header]
    repeated = sorted({name for name in names if name and names.count(name) > 1})
    findings = [f"row 1: column {name!r} occurs twice" for name in repeated]
    findings += [
        f"row {number}: {len(row)} cells, but {len(names)} columns"
        for number, row in body
        if len(row) != len(names)
    ]
    if findings:
        raise DataError(list_findings(f"{path}: not a table", findings, remedy))
    return [dict(zip(names, row, strict=True)) for _, row in body]
