"""Tables as LaTeX (booktabs): one float a block, intervals and verdicts in smaller lines below.

A table that is wider than the text is scaled down to it (graphicx).
"""

from collections.abc import Iterable, Mapping

from ademvl.reporting.layout import Block, Column, Row, Table, printable

_SPECIAL = {
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
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≥": r"$\geq$",
}
_FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"


def to_latex(table: Table) -> str:
    """Render a table; the same scores give the same bytes."""
    numbers = table.footnotes()
    lines = [f"% {escape_latex(table.title)}; needs \\usepackage{{booktabs,graphicx}}"]
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
            *_tabular(block, numbers),
            "\\par\\medskip\\raggedright\\scriptsize",
            *(f"{_marks([note], numbers)}~{escape_latex(note)}\\par" for note in block.notes),
            *(f"{escape_latex(note)}\\par" for note in table.notes if is_last),
            "\\end{table}",
        ]
    return "\n".join(lines) + "\n"


def _tabular(block: Block, numbers: Mapping[str, int]) -> list[str]:
    leads = block.lead_keys
    width = len(leads) + len(block.columns)
    header = [escape_latex(text) for text in block.lead_headers]
    header += [
        escape_latex(column.header) + _marks([column.note], numbers) for column in block.columns
    ]
    lines = [
        _FIT,
        f"\\begin{{tabular}}{{{'l' * len(leads)}{'r' * len(block.columns)}}}",
        "\\toprule",
        *_groups(block),
        _line(header),
    ]
    if block.has_common_n:
        items = [str(block.common_n(column) or "") for column in block.columns]
        lines.append(_line(["$n$", *[""] * (len(leads) - 1), *items]))
    for section in block.sections:
        lines.append("\\midrule")
        if section.title:
            title = f"\\textit{{{escape_latex(section.title)}}}"
            lines.append(f"\\multicolumn{{{width}}}{{l}}{{{title}}} \\\\")
        for row in section.rows:
            lines += _row(block, row, numbers)
    return [*lines, "\\bottomrule", "\\end{tabular}}"]


def _groups(block: Block) -> list[str]:
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
    return [_line(texts), "".join(rules)]


def _row(block: Block, row: Row, numbers: Mapping[str, int]) -> list[str]:
    """Render a row; a single interval stands beside its number, several in a line below."""
    texts = [escape_latex(row.texts.get(key, "")) for key in block.lead_keys]
    texts[0] += _marks(row.notes, numbers)
    values = [escape_latex(column.format_cell(row.cell(column))) for column in block.columns]
    intervals = [_interval(block, row, column) for column in block.columns]
    verdicts = [_verdict(row, column) for column in block.columns]
    below = []
    if sum(map(bool, intervals)) > 1:
        below.append(intervals)
    else:
        values = [" ".join(filter(None, pair)) for pair in zip(values, intervals, strict=True)]
    if any(verdicts):
        below.append(verdicts)
    space = ["\\addlinespace[2pt]"] if below else []
    return [
        _line(texts + values),
        *(_line([""] * len(texts) + details) for details in below),
        *space,
    ]


def _interval(block: Block, row: Row, column: Column) -> str:
    odd_n = block.odd_n(row, column)
    interval = column.format_interval(row.cell(column)).replace("−", "$-$")
    text = " ".join(part for part in (interval, f"$n = {odd_n}$" if odd_n else "") if part)
    return f"{{\\tiny {text}}}" if text else ""


def _verdict(row: Row, column: Column) -> str:
    text = column.format_judgement(row.cell(column))
    return f"{{\\tiny {escape_latex(text)}}}" if text else ""


def _line(texts: Iterable[str]) -> str:
    return " & ".join(texts) + " \\\\"


def _marks(notes: Iterable[str], numbers: Mapping[str, int]) -> str:
    marks = ",".join(map(str, sorted({numbers[note] for note in notes if note})))
    return f"\\textsuperscript{{{marks}}}" if marks else ""


def escape_latex(text: str) -> str:
    """Keep a text's characters from acting as LaTeX."""
    return "".join(_SPECIAL.get(character, character) for character in printable(text))
