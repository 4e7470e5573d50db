"""Tables as LaTeX (booktabs): one float a block, intervals and verdicts in smaller lines below.

A table that is wider than the text is scaled down to it (graphicx), one that is higher than a page
goes on in another float.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ademvl.reporting.printable import printable
from ademvl.reporting.tables.layout import Block, Column, Row, Section, Table

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
}
_MATH = """
±pm ×times ≤leq ≥geq ≈approx ≠neq ∞infty ←gets →to ↔leftrightarrow
αalpha βbeta γgamma δdelta εvarepsilon ζzeta ηeta θtheta ιiota κkappa λlambda μmu νnu ξxi πpi ρrho
σsigma ςvarsigma τtau υupsilon φvarphi χchi ψpsi ωomega
ΓGamma ΔDelta ΘTheta ΛLambda ΞXi ΠPi ΣSigma ΥUpsilon ΦPhi ΨPsi ΩOmega
"""
_SPECIAL |= {pair[0]: f"$\\{pair[1:]}$" for pair in _MATH.split()}
_PRINTED = "‘’“”—…•†‡‰€™"
"""Passed on as they are, beside the Latin letters below U+0180."""
_NOT_IN_OT1 = "«»ÐÞðþĄąĐđĘęĦħĮįĸĿŀŉŊŋŦŧŲųſ"
"""Of those, what pdflatex has no sign for in its standard encoding."""
_FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
_MAX_LINES = 64
"""Of a float's body, rules and spaces counted: with head and notes it fits a page of A4."""


def to_latex(table: Table) -> str:
    """Render a table; the same scores give the same bytes."""
    numbers = table.footnotes()
    lines = [f"% {escape_latex(table.title)}; needs \\usepackage{{booktabs,graphicx}}"]
    for index, block in enumerate(table.blocks):
        notes = [f"{_marks([note], numbers)}~{escape_latex(note)}" for note in block.notes]
        if index == len(table.blocks) - 1:
            notes += map(escape_latex, table.remarks)
        lines += _floats(table, block, f"tab:{table.key}-{index + 1}", numbers, notes)
    return "\n".join(lines) + "\n"


def _floats(
    table: Table, block: Block, label: str, numbers: Mapping[str, int], notes: Sequence[str]
) -> Iterator[str]:
    """Render a block as one float, or as several where it is higher than a page."""
    unit = f"; {table.unit}" if table.unit else ""
    remark = f" {block.remark}" if block.remark else ""
    caption = escape_latex(f"{table.title}. {block.title}{unit}.{remark}")
    parts = _parts(block, numbers)
    for place, body in enumerate(parts):
        continued = " (Continued.)" if place else ""
        yield "\\begin{table}[tp]"
        yield "\\centering\\footnotesize\\setlength{\\tabcolsep}{3pt}"
        yield f"\\caption{{{caption}{continued}}}"
        yield f"\\label{{{label}{f'-{place + 1}' if place else ''}}}"
        yield from _head(block, numbers)
        yield from (line for group in body for line in group)
        yield "\\bottomrule"
        yield "\\end{tabular}}"
        if place == len(parts) - 1:
            yield "\\par\\medskip\\raggedright\\scriptsize"
            yield from (f"{note}\\par" for note in notes)
        yield "\\end{table}"


def _parts(block: Block, numbers: Mapping[str, int]) -> list[list[list[str]]]:
    """Distribute a block's rows over floats: each a list of rows, each the lines of a row."""
    width = len(block.lead_keys) + len(block.columns)
    parts: list[list[list[str]]] = [[]]
    height = 0
    for section in block.sections:
        for place, row in enumerate(section.rows):
            lines = _row(block, row, numbers)
            if height + len(lines) > _MAX_LINES:
                parts.append([])
                height = 0
            if place == 0 or not parts[-1]:
                lines = [*_section_head(section, width, is_continued=place > 0), *lines]
            parts[-1].append(lines)
            height += len(lines)
    return parts


def _section_head(section: Section, width: int, *, is_continued: bool) -> list[str]:
    if not section.title:
        return ["\\midrule"]
    title = escape_latex(section.title) + (", continued" if is_continued else "")
    return ["\\midrule", f"\\multicolumn{{{width}}}{{l}}{{\\textit{{{title}}}}} \\\\"]


def _head(block: Block, numbers: Mapping[str, int]) -> Iterator[str]:
    leads = block.lead_keys
    header = [escape_latex(text) for text in block.lead_headers]
    header += [
        escape_latex(column.header) + _marks([column.note], numbers) for column in block.columns
    ]
    yield _FIT
    yield f"\\begin{{tabular}}{{{'l' * len(leads)}{'r' * len(block.columns)}}}"
    yield "\\toprule"
    yield from _groups(block)
    yield _line(header)
    if block.has_common_n:
        items = [str(block.common_n(column) or "") for column in block.columns]
        yield _line(["$n$", *[""] * (len(leads) - 1), *items])


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
    """Keep a text's characters from acting as LaTeX; one that pdflatex lacks becomes [U+4E2D]."""
    return "".join(map(_escape, unicodedata.normalize("NFC", printable(text))))


def _escape(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    is_latin = character < "\u0180" and character not in _NOT_IN_OT1
    return character if is_latin or character in _PRINTED else f"{{[}}U+{ord(character):04X}]"
