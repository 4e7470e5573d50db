"""Tables as tidy CSV: one line for each number, with everything that belongs to it."""

from ademvl.reporting.printable import printable
from ademvl.reporting.tables.layout import LEAD_KEYS, Block, Column, Row, Table

CSV_COLUMNS = (
    "table",
    "block",
    "kind",
    "scale",
    "key",
    "name",
    "settings",
    "llm",
    "trainable",
    "run",
    "seeds",
    "state",
    "column",
    "value",
    "ci_low",
    "ci_high",
    "n",
    "split",
    "num_seeds",
    "ci_covers",
    "ci_method",
    "difference",
    "difference_ci_low",
    "difference_ci_high",
    "verdict",
    "unit",
    "source",
    "study",
)
_NUMBERS = (
    *("value", "ci_low", "ci_high", "n", "num_seeds"),
    *("difference", "difference_ci_low", "difference_ci_high"),
)
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
_DIGITS = 6


def to_csv(table: Table) -> str:
    """Render a table."""
    from pandas import DataFrame

    lines = [
        _line(table, block, row, column)
        for block in table.blocks
        for row in block.rows
        for column in block.columns
    ]
    return DataFrame(lines, columns=CSV_COLUMNS).to_csv(index=False, lineterminator="\n")


def _line(table: Table, block: Block, row: Row, column: Column) -> dict[str, str]:
    cell, judgement = row.cell(column), row.cell(column).judgement
    texts = {key: printable(row.texts.get(key, "")) for key in LEAD_KEYS}
    varied = [f"{key}: {value}" for key, value in row.texts.items() if key not in LEAD_KEYS]
    line = {
        **texts,
        "table": table.key,
        "block": printable(block.title),
        "kind": block.kind_of(row, column),
        "scale": block.scale_of(column),
        "key": row.key,
        "settings": printable(", ".join(varied)),
        "state": row.state,
        "column": column.key,
        "value": _number(cell.value),
        "ci_low": _number(cell.ci_low),
        "ci_high": _number(cell.ci_high),
        "n": "" if cell.n is None else str(cell.n),
        "split": cell.split,
        "num_seeds": str(cell.num_seeds or ""),
        "ci_covers": cell.covers,
        "ci_method": cell.method,
        "difference": _number(judgement.difference) if judgement else "",
        "difference_ci_low": _number(judgement.ci_low) if judgement else "",
        "difference_ci_high": _number(judgement.ci_high) if judgement else "",
        "verdict": judgement.outcome if judgement else "",
        "unit": table.unit,
        "study": printable(table.study),
    }
    return {
        name: text if name in _NUMBERS else _never_a_formula(text) for name, text in line.items()
    }


def _never_a_formula(text: str) -> str:
    """Quote a text that spreadsheets would run: what begins with = + - @, also at full width."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _number(value: float | None) -> str:
    return "" if value is None else str(round(value, _DIGITS))
