"""Tables as GitHub Markdown, columns aligned in the source too."""

import re
from collections.abc import Iterable, Mapping

from ademvl.reporting.printable import printable
from ademvl.reporting.tables.layout import Block, Column, Row, Table

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def to_markdown(table: Table) -> str:
    """Render a table with its footnotes; the same scores give the same bytes."""
    numbers = table.footnotes()
    lines = [f"# {escape_markdown(table.title)}"]
    if table.unit:
        lines += ["", f"All numbers: {table.unit}."]
    for block in table.blocks:
        lines += ["", f"## {escape_markdown(block.title)}", ""]
        if block.remark:
            lines += [escape_markdown(block.remark), ""]
        lines += _grid(block, numbers)
    if numbers:
        lines += ["", "Footnotes:", ""]
        lines += [f"{number}. {escape_markdown(note)}" for note, number in numbers.items()]
    if table.remarks:
        lines += ["", *(f"- {escape_markdown(note)}" for note in table.remarks)]
    return "\n".join(lines) + "\n"


def _grid(block: Block, numbers: Mapping[str, int]) -> list[str]:
    leads = block.lead_keys
    grid = [_header(block, numbers)]
    if block.has_common_n:
        items = [str(block.common_n(column) or "") for column in block.columns]
        grid.append(["*n*", *[""] * (len(leads) - 1), *items])
    for section in block.sections:
        if section.title:
            title = f"**{escape_markdown(section.title)}**"
            grid.append([title, *[""] * (len(grid[0]) - 1)])
        for row in section.rows:
            texts = [escape_markdown(row.texts.get(key, "")) for key in leads]
            texts[0] += _marks(row.notes, numbers)
            cells = [_cell_text(block, row, column) for column in block.columns]
            grid.append(texts + cells)
    return _align(grid, num_left=len(leads))


def _header(block: Block, numbers: Mapping[str, int]) -> list[str]:
    """Head every column; a group's name stands in the head of each of its columns where needed."""
    plain = [column.header for column in block.columns]
    repeated = len(set(plain)) < len(plain)
    header = [escape_markdown(text) for text in block.lead_headers]
    for column in block.columns:
        text = f"{column.group}: {column.header}" if repeated and column.group else column.header
        header.append(escape_markdown(text) + _marks([column.note], numbers))
    return header


def _align(grid: list[list[str]], *, num_left: int) -> list[str]:
    widths = [max(3, *map(len, column)) for column in zip(*grid, strict=True)]
    rule = [
        "-" * width if index < num_left else "-" * (width - 1) + ":"
        for index, width in enumerate(widths)
    ]
    aligned = [
        [
            text.ljust(width) if index < num_left else text.rjust(width)
            for index, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in grid
    ]
    return [f"| {' | '.join(line)} |" for line in [aligned[0], rule, *aligned[1:]]]


def _cell_text(block: Block, row: Row, column: Column) -> str:
    cell = row.cell(column)
    parts = [column.format_cell(cell), column.format_interval(cell)]
    odd_n = block.odd_n(row, column)
    if odd_n:
        parts.append(f"(n = {odd_n})")
    text = " ".join(part for part in parts if part)
    judgement = column.format_judgement(cell)
    return f"{text}<br>{judgement}" if judgement else text


def _marks(notes: Iterable[str], numbers: Mapping[str, int]) -> str:
    marks = ", ".join(map(str, sorted({numbers[note] for note in notes if note})))
    return f"<sup>{marks}</sup>" if marks else ""


def escape_markdown(text: str) -> str:
    """Keep a text's characters from acting as Markdown or HTML."""
    return _SPECIAL.sub(r"\\\1", printable(text)).replace("&", "&amp;")
