"""Tables as Markdown, LaTeX (booktabs) and tidy CSV; the same scores give the same bytes."""

import csv
import io
import re
from collections.abc import Iterable, Mapping

from ademvl.reporting.layout import LEAD_KEYS, Block, Column, Row, Table, printable

CSV_COLUMNS = (
    "table",
    "kind",
    "scale",
    "key",
    "name",
    "llm",
    "trainable",
    "seeds",
    "state",
    "column",
    "value",
    "ci_low",
    "ci_high",
    "n",
    "ci_method",
    "unit",
    "source",
)
_CSV_DIGITS = 6
_MARKDOWN_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")
_LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "[": "{[}",  # both would be options of a line end just before them
    "*": "{*}",
    "–": "--",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≥": r"$\geq$",
}


def to_csv(table: Table) -> str:
    """Render one line for each number, with everything that belongs to it."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for block in table.blocks:
        for row in block.rows:
            for column in block.columns:
                writer.writerow(_csv_line(table, block, row, column))
    return stream.getvalue()


def _csv_line(table: Table, block: Block, row: Row, column: Column) -> list[str]:
    cell = row.cell(column)
    texts = {key: printable(row.texts.get(key, "")) for key in LEAD_KEYS}
    values: dict[str, str] = {
        "table": table.key,
        "kind": row.kind,
        "scale": block.scale,
        "key": row.key,
        **texts,
        "state": row.state,
        "column": column.key,
        "value": _number(cell.value),
        "ci_low": _number(cell.ci_low),
        "ci_high": _number(cell.ci_high),
        "n": "" if cell.n is None else str(cell.n),
        "ci_method": cell.method,
        "unit": table.unit,
    }
    return [values[key] for key in CSV_COLUMNS]


def _number(value: float | None) -> str:
    return "" if value is None else str(round(value, _CSV_DIGITS))


def to_markdown(table: Table) -> str:
    """Render as GitHub Markdown, columns aligned in the source too."""
    numbers = table.footnotes()
    lines = [f"# {escape_markdown(table.title)}"]
    if table.unit:
        lines += ["", f"All numbers: {table.unit}."]
    for block in table.blocks:
        lines += ["", f"## {escape_markdown(block.title)}", ""]
        if block.remark:
            lines += [escape_markdown(block.remark), ""]
        lines += _markdown_grid(block, numbers)
    if numbers:
        lines += ["", "Footnotes:", ""]
        lines += [f"{number}. {escape_markdown(note)}" for note, number in numbers.items()]
    if table.notes:
        lines += ["", *(f"- {escape_markdown(note)}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def _markdown_grid(block: Block, numbers: Mapping[str, int]) -> list[str]:
    leads = block.lead_keys
    header = list(block.lead_headers)
    header += [
        escape_markdown(column.header) + _markdown_marks([column.note], numbers)
        for column in block.columns
    ]
    grid = [header]
    if block.has_common_n:
        items = [str(block.common_n(column) or "") for column in block.columns]
        grid.append(["*n*", *[""] * (len(leads) - 1), *items])
    for section in block.sections:
        if section.title:
            title = f"**{escape_markdown(section.title)}**"
            grid.append([title, *[""] * (len(header) - 1)])
        for row in section.rows:
            texts = [escape_markdown(row.texts.get(key, "")) for key in leads]
            texts[0] += _markdown_marks(row.notes, numbers)
            cells = [_cell_text(block, row, column) for column in block.columns]
            grid.append(texts + cells)
    widths = [max(map(len, column), default=3) for column in zip(*grid, strict=True)]
    rule = [
        "-" * width if index < len(leads) else "-" * (width - 1) + ":"
        for index, width in enumerate(widths)
    ]
    aligned = [
        [
            text.ljust(width) if index < len(leads) else text.rjust(width)
            for index, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in grid
    ]
    return [f"| {' | '.join(line)} |" for line in [aligned[0], rule, *aligned[1:]]]


def _cell_text(block: Block, row: Row, column: Column) -> str:
    cell = row.cell(column)
    parts = [column.format(cell.value), column.format_interval(cell)]
    odd_n = block.odd_n(row, column)
    if odd_n:
        parts.append(f"(n = {odd_n})")
    return " ".join(part for part in parts if part)


def _markdown_marks(notes: Iterable[str], numbers: Mapping[str, int]) -> str:
    marks = ", ".join(map(str, sorted(numbers[note] for note in notes if note)))
    return f"<sup>{marks}</sup>" if marks else ""


def escape_markdown(text: str) -> str:
    """Keep a text's characters from acting as Markdown or HTML."""
    return _MARKDOWN_SPECIAL.sub(r"\\\1", printable(text)).replace("&", "&amp;")


def to_latex(table: Table) -> str:
    """Render as booktabs tables, one float a block; intervals stand in a smaller line below."""
    numbers = table.footnotes()
    lines = [f"% {escape_latex(table.title)}; needs \\usepackage{{booktabs}}"]
    for index, block in enumerate(table.blocks):
        unit = f"; {table.unit}" if table.unit else ""
        remark = f" {block.remark}" if block.remark else ""
        caption = f"{table.title}. {block.title}{unit}.{remark}"
        is_last = index == len(table.blocks) - 1
        lines += [
            "\\begin{table}[tp]",
            "\\centering\\footnotesize\\setlength{\\tabcolsep}{3pt}",
            f"\\caption{{{escape_latex(caption)}}}",
            f"\\label{{tab:{table.key}-{index + 1}}}",
            *_latex_tabular(block, numbers),
            "\\par\\medskip\\raggedright\\scriptsize",
            *(f"{_latex_marks([note], numbers)}~{escape_latex(note)}\\par" for note in block.notes),
            *(f"{escape_latex(note)}\\par" for note in table.notes if is_last),
            "\\end{table}",
        ]
    return "\n".join(lines) + "\n"


def _latex_tabular(block: Block, numbers: Mapping[str, int]) -> list[str]:
    leads = block.lead_keys
    width = len(leads) + len(block.columns)
    header = list(block.lead_headers)
    header += [
        escape_latex(column.header) + _latex_marks([column.note], numbers)
        for column in block.columns
    ]
    lines = [
        f"\\begin{{tabular}}{{{'l' * len(leads)}{'r' * len(block.columns)}}}",
        "\\toprule",
        *_latex_groups(block),
        _latex_line(header),
    ]
    if block.has_common_n:
        items = [str(block.common_n(column) or "") for column in block.columns]
        lines.append(_latex_line(["$n$", *[""] * (len(leads) - 1), *items]))
    for section in block.sections:
        lines.append("\\midrule")
        if section.title:
            title = f"\\textit{{{escape_latex(section.title)}}}"
            lines.append(f"\\multicolumn{{{width}}}{{l}}{{{title}}} \\\\")
        for row in section.rows:
            lines += _latex_row(block, row, numbers)
    return [*lines, "\\bottomrule", "\\end{tabular}"]


def _latex_groups(block: Block) -> list[str]:
    """Head columns that stand together by their group's name and a rule."""
    if not block.column_groups:
        return []
    texts, rules = [""] * len(block.lead_keys), []
    start = len(texts) + 1
    for group, num_members in block.column_groups:
        end = start + num_members - 1
        texts.append(f"\\multicolumn{{{num_members}}}{{c}}{{{escape_latex(group)}}}")
        if group:
            rules.append(f"\\cmidrule(lr){{{start}-{end}}}")
        start = end + 1
    return [_latex_line(texts), "".join(rules)]


def _latex_row(block: Block, row: Row, numbers: Mapping[str, int]) -> list[str]:
    """Render a row; a single interval stands beside its number, several in a line below."""
    texts = [escape_latex(row.texts.get(key, "")) for key in block.lead_keys]
    texts[0] += _latex_marks(row.notes, numbers)
    values = [escape_latex(column.format(row.cell(column).value)) for column in block.columns]
    details = [_latex_details(block, row, column) for column in block.columns]
    if sum(map(bool, details)) <= 1:
        beside = [" ".join(filter(None, pair)) for pair in zip(values, details, strict=True)]
        return [_latex_line(texts + beside)]
    return [_latex_line(texts + values), _latex_line([""] * len(texts) + details)]


def _latex_details(block: Block, row: Row, column: Column) -> str:
    odd_n = block.odd_n(row, column)
    parts = [column.format_interval(row.cell(column)), f"$n = {odd_n}$" if odd_n else ""]
    text = " ".join(part for part in parts if part)
    return f"{{\\tiny {text}}}" if text else ""


def _latex_line(texts: Iterable[str]) -> str:
    return " & ".join(texts) + " \\\\"


def _latex_marks(notes: Iterable[str], numbers: Mapping[str, int]) -> str:
    marks = ",".join(map(str, sorted(numbers[note] for note in notes if note)))
    return f"\\textsuperscript{{{marks}}}" if marks else ""


def escape_latex(text: str) -> str:
    """Keep a text's characters from acting as LaTeX."""
    return "".join(_LATEX_SPECIAL.get(character, character) for character in printable(text))
