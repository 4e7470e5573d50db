"""Tables as semantic HTML, for the study's page or any other; texts are escaped.

The markup holds no style and no script. Classes and attributes for those who add them:

- `table.data` in `div.scroll`; `tr.measured`, `tr.reported`, `tr.ceiling`, `tr.section`, each with
  `data-state` where a run is not finished;
- `td.number` with `data-sort-value`, the number as it stands, empty where there is none; the kind
  and scale of its number are classes too;
- inside a cell `span.value`, `.missing`, `.interval` and `.verdict`, the last with one of the
  classes `reproduced`, `not-reproduced`, `cannot-tell`, `same-direction`, `other-direction`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING

from ademvl.reporting.printable import printable
from ademvl.reporting.tables.layout import Table

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

_STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 1rem; }
.scroll { overflow-x: auto; margin: 1.5rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: bold; padding-bottom: .4rem; }
.remark, .interval, .verdict { font-weight: normal; font-size: .8em; display: block; }
th, td { padding: .25rem .6rem; text-align: left; vertical-align: top; }
th, td { border-bottom: 1px solid #ccc; }
.number { text-align: right; white-space: nowrap; }
.section th { background: #eee; }
"""
_FACTORS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}


def to_html(table: Table) -> "Markup":
    """Render the blocks of a table and its footnotes, without a heading.

    Ids begin with the table's key, so that several tables can stand in one page. The content holds
    no number that another renderer lacks.
    """
    from markupsafe import Markup

    html = _template().render(table=table, numbers=table.footnotes(), anchor=table.key)
    return Markup(html)  # escaped by the template engine


def to_html_page(table: Table) -> str:
    """Render a table as a page of its own, for browsers and for pasting from."""
    from markupsafe import escape

    unit = f"<p>All numbers: {escape(table.unit)}.</p>\n" if table.unit else ""
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{escape(printable(table.title))}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<h1>{escape(printable(table.title))}</h1>\n{unit}{to_html(table)}\n"
        "</body>\n</html>\n"
    )


@cache
def _template() -> "Template":
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ademvl.reporting", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(
        printable=printable,
        zip=_zip,
        footnotes=_footnotes,
        count_of=_count_of,
        css_name=_css_name,
    )
    return environment.get_template("table.html.j2")


def _zip(first: Iterable[str], second: Iterable[str]) -> Iterator[tuple[str, str]]:
    return zip(first, second, strict=True)


def _footnotes(notes: Iterable[str], numbers: Mapping[str, int]) -> list[int]:
    return sorted({numbers[note] for note in notes if note})


def _css_name(key: str) -> str:
    return key.replace("_", "-")


def _count_of(text: str) -> str:
    """Return the number of parameters that `4.5M` or `86,528` say, for sorting; or nothing."""
    match = re.fullmatch(r"([0-9.]+)([KMB]?)", text.replace(",", ""))
    return str(round(float(match[1]) * _FACTORS[match[2]])) if match else ""
