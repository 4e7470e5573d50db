"""What a table consists of, before anyone decides how it is printed.

A table is a list of blocks. Every block has its own columns, so that numbers of different scale can
stand in one table without ever sharing a column.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from ademvl.statistics.intervals import bracketed

DASH = "–"
MINUS = "−"
LEAD_KEYS = ("name", "llm", "trainable", "source", "run", "seeds")
"""Text columns that may stand before the numbers, in their order; settings stand after `name`."""
_LEAD_HEADERS = {
    "llm": "LLM",
    "query_from": "query from",
    "add_to": "added to",
    "than_adem_vl": "than ADEM-VL",
}

REPORTED_PREFIX = "reported_"
"""Of a table's key where it stands for the reported part alone."""

Scale = Literal["mini", "paper"]
Kind = Literal["measured", "ceiling", "reported"]
Covers = Literal["", "items", "seeds and items"]


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a measured number says about the number that it stands beside.

    Attributes:
        outcome: stable name, for machines and style sheets.
        words: the outcome as printed.
        difference: measured minus reported, in the table's unit; None where it is not printed.
        ci_low, ci_high: of the difference.
        reason: why nothing can be told.
    """

    outcome: Literal[
        "reproduced", "not-reproduced", "cannot-tell", "same-direction", "other-direction"
    ]
    words: str
    difference: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One number in the unit in which it is printed; None prints as a dash.

    Attributes:
        value, ci_low, ci_high: in the table's unit.
        decimals: of a reported value as printed; the column's where None.
        n: items behind the number, where known.
        split: of the data that it was scored on, where known.
        num_seeds: trainings behind the number; 0 where it was not measured here.
        method: of the interval.
        covers: what the interval covers; empty without one.
        missing: printed in place of an absent value, such as `not run`; a dash when empty.
        judgement: of a measured number that stands beside a reported one.
    """

    value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    decimals: int | None = None
    n: int | None = None
    split: str = ""
    num_seeds: int = 0
    method: str = ""
    covers: Covers = ""
    missing: str = ""
    judgement: Judgement | None = None


EMPTY = Cell()


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of numbers.

    Attributes:
        key: stable name, for machines.
        header: name as printed.
        decimals: of every number in it.
        group: columns that stand together, such as `subject`; empty for none.
        note: what the column means in this block's data.
        kind: of its numbers, where it differs from that of its rows.
        scale: of its numbers, where it differs from that of its block.
        is_change: its numbers are differences and printed with their sign.
    """

    key: str
    header: str
    decimals: int
    group: str = ""
    note: str = ""
    kind: Kind | None = None
    scale: Scale | None = None
    is_change: bool = False

    def format(self, value: float | None) -> str:
        """Print a number with the column's decimals, or a dash."""
        if value is None:
            return DASH
        return self.format_signed(value) if self.is_change else f"{value:.{self.decimals}f}"

    def format_signed(self, value: float) -> str:
        """Print a difference with its sign; 0 has none."""
        text = f"{value:+.{self.decimals}f}"
        if not float(text):
            return text[1:]
        return text.replace("-", MINUS)

    def format_cell(self, cell: Cell) -> str:
        """Print a cell's number, or what stands in its place."""
        if cell.value is not None and cell.decimals is not None:
            return f"{cell.value:.{cell.decimals}f}"
        return cell.missing if cell.value is None and cell.missing else self.format(cell.value)

    def format_judgement(self, cell: Cell) -> str:
        """Print the verdict on a reported number and by how much it was missed, or nothing."""
        judgement = cell.judgement
        if judgement is None:
            return ""
        if judgement.difference is None:
            return judgement.words
        difference = self.format_signed(judgement.difference)
        if judgement.outcome == "reproduced":
            return f"{judgement.words} ({difference})"
        reason = f", {judgement.reason}" if judgement.reason else ""
        return f"{judgement.words}: {difference}{reason}"

    def format_interval(self, cell: Cell) -> str:
        """Print `[low, high]`, `(low, high)†` of items only, or nothing without an interval."""
        if cell.ci_low is None or cell.ci_high is None:
            return ""
        low, high = self.format(cell.ci_low), self.format(cell.ci_high)
        return bracketed(low, high, covers_seeds=cell.covers == "seeds and items")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row: texts in front, numbers behind.

    Attributes:
        key: run or method.
        kind: measured here, a ceiling measured here, or reported by others.
        texts: by LEAD_KEYS, and by names of settings that the row varies.
        cells: by column key; an absent one prints as a dash.
        notes: footnotes to this row.
        state: of a measured row, such as `finished` or `not run`.
    """

    key: str
    kind: Kind
    texts: Mapping[str, str]
    cells: Mapping[str, Cell] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    state: str = ""

    def cell(self, column: Column) -> Cell:
        """Return the cell of a column."""
        return self.cells.get(column.key, EMPTY)


@dataclass(frozen=True, kw_only=True)
class Section:
    """Rows under one heading; the heading may be empty."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, kw_only=True)
class Block:
    """Sections that share columns because their numbers are of one scale.

    Attributes:
        title: heading.
        scale: `mini` or `paper`.
        columns: of numbers.
        sections: never empty.
        remark: sentence under the heading.
        row_header: what the first text column names; told by the rows' kinds when empty.
        has_items_by_row: the numbers of a row share their items, not those of a column.
    """

    title: str
    scale: Scale
    columns: tuple[Column, ...]
    sections: tuple[Section, ...]
    remark: str = ""
    row_header: str = ""
    has_items_by_row: bool = False

    @property
    def rows(self) -> tuple[Row, ...]:
        """Rows of all sections."""
        return tuple(row for section in self.sections for row in section.rows)

    @property
    def notes(self) -> tuple[str, ...]:
        """Footnotes of columns, then of rows, each once, in order of appearance."""
        of_columns = [column.note for column in self.columns if column.note]
        of_rows = [note for row in self.rows for note in row.notes]
        return tuple(dict.fromkeys([*of_columns, *of_rows]))

    @property
    def lead_keys(self) -> tuple[str, ...]:
        """Text columns that at least one row fills."""
        found = dict.fromkeys(key for row in self.rows for key in row.texts)
        settings = [key for key in found if key not in LEAD_KEYS]
        ordered = [LEAD_KEYS[0], *settings, *LEAD_KEYS[1:]]
        return tuple(key for key in ordered if any(row.texts.get(key) for row in self.rows))

    @property
    def lead_headers(self) -> tuple[str, ...]:
        """Headers of the text columns."""
        kinds = {row.kind for row in self.rows}
        name = "run"
        if "reported" in kinds:
            name = "method" if kinds == {"reported"} else "run or method"
        named = {**_LEAD_HEADERS, "name": self.row_header or name}
        return tuple(named.get(key, key.replace("_", " ")) for key in self.lead_keys)

    def kind_of(self, row: Row, column: Column) -> Kind:
        """Return whether a cell was measured or reported."""
        return column.kind or row.kind

    def scale_of(self, column: Column) -> Scale:
        """Return the scale of a column's numbers."""
        return column.scale or self.scale

    @property
    def is_reported_only(self) -> bool:
        """Whether others reported all of its numbers."""
        return all(
            self.kind_of(row, column) == "reported" for row in self.rows for column in self.columns
        )

    @property
    def column_groups(self) -> tuple[tuple[str, int], ...]:
        """Neighbouring columns of one group, as name and number; empty without any group."""
        groups = itertools.groupby(column.group for column in self.columns)
        counted = tuple((group, len(list(members))) for group, members in groups)
        return counted if any(group for group, _ in counted) else ()

    def full_header(self, column: Column) -> str:
        """Return a column's header, behind its group's where another column has the same."""
        is_alone = [other.header for other in self.columns].count(column.header) == 1
        return column.header if is_alone or not column.group else f"{column.group}: {column.header}"

    def common_n(self, column: Column) -> int | None:
        """Return the number of items when all of the column's numbers share it."""
        if self.has_items_by_row:
            return None
        found = {
            row.cell(column).n for row in self.rows if row.cell(column).n and row.kind != "ceiling"
        }
        return found.pop() if len(found) == 1 else None

    @property
    def has_common_n(self) -> bool:
        """Whether a line of n tells something."""
        return any(self.common_n(column) for column in self.columns)

    def odd_n(self, row: Row, column: Column) -> int | None:
        """Return a cell's number of items where the block's line or column of n does not tell."""
        n = row.cell(column).n
        is_told = row.texts.get("n") == str(n) if self.has_items_by_row else False
        return None if is_told or n == self.common_n(column) else n


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table with its footnotes.

    Attributes:
        key: file name without suffix.
        title: heading.
        short_title: heading where the study is named already, such as on its page.
        unit: of all numbers; empty where the columns' headers tell it.
        blocks: one for each scale.
        effects: what its runs say of each other, before the notes.
        notes: remarks on the whole table.
        reported_notes: remarks on its reported numbers; they stand behind the others.
        study: that it belongs to.
    """

    key: str
    title: str
    short_title: str
    unit: str
    blocks: tuple[Block, ...]
    effects: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    reported_notes: tuple[str, ...] = ()
    study: str = ""

    @property
    def remarks(self) -> tuple[str, ...]:
        """All remarks, those on reported numbers last."""
        return (*self.effects, *self.notes, *self.reported_notes)

    @property
    def is_reported_only(self) -> bool:
        """Whether no run of the study has a place in the table."""
        return all(block.is_reported_only for block in self.blocks)

    @property
    def measured_part(self) -> "Table":
        """The blocks in which a run of the study has a place; all of them where each has one."""
        blocks = tuple(block for block in self.blocks if not block.is_reported_only)
        is_whole = len(blocks) == len(self.blocks)
        return self if is_whole else replace(self, blocks=blocks, reported_notes=())

    @property
    def reported_part(self) -> "Table":
        """The blocks of nothing but reported numbers."""
        blocks = tuple(block for block in self.blocks if block.is_reported_only)
        return replace(
            self, key=f"{REPORTED_PREFIX}{self.key}", blocks=blocks, effects=(), notes=()
        )

    def footnotes(self) -> dict[str, int]:
        """Number all footnotes of columns and rows, in order of appearance, from 1."""
        found: dict[str, int] = {}
        for block in self.blocks:
            for note in block.notes:
                found.setdefault(note, len(found) + 1)
        return found
