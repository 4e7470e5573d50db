"""The study's page: overview, tables, figures, fusion maps, all answers, cost and provenance.

`index.html` with what lies beside it (`images/`, `figures/`, `fusion_maps/`, `data/`) opens from
the file system, can be moved as one folder, and loads nothing from elsewhere. Its content security
policy allows the page's own script, by its checksum, and what that script loads; texts of data and
settings are escaped, by the template engine in the page and by `page_scripts` in its data.
"""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ademvl import __version__
from ademvl.config.study import Study
from ademvl.reporting.figures.build import FIGURES, draw_figures
from ademvl.reporting.figures.plotting import on_dark
from ademvl.reporting.fusion_maps.viewer import write_fusion_maps_data
from ademvl.reporting.headlines import find_headlines
from ademvl.reporting.method_comparison import compare_methods
from ademvl.reporting.page.browsing import write_browsers
from ademvl.reporting.page.overview import (
    answers,
    count_verdicts,
    runs_by_task,
    verdict_lines,
)
from ademvl.reporting.page.provenance import gather_facts, other_code
from ademvl.reporting.page.settings_difference import differences_to_paper, flatten
from ademvl.reporting.page.thumbnails import Thumbnails
from ademvl.reporting.printable import printable
from ademvl.reporting.reported import ReportedNumbers, load_reported
from ademvl.reporting.results import StudyResults, read_results
from ademvl.reporting.tables.build import build_tables
from ademvl.reporting.tables.html import to_html
from ademvl.reporting.tables.keys import COST_KEYS
from ademvl.reporting.tables.latex import to_latex
from ademvl.reporting.tables.layout import REPORTED_PREFIX, Table
from ademvl.reporting.tables.markdown import to_markdown
from ademvl.reporting.tables.tidy_csv import to_csv
from ademvl.runs.provenance import code_commit
from ademvl.statistics.intervals import ITEMS_NOTE
from ademvl.storage.files import write_text
from ademvl.storage.folders import folder_built_aside
from ademvl.storage.project import PROJECT

if TYPE_CHECKING:
    from markupsafe import Markup

DEVIATIONS_PAGE = PROJECT / "docs" / "deviations.md"
PAPER = "2410.17779"
_ENTRIES = ("index.html", "images", "figures", "fusion_maps", "data", "tables")
_FORMATS = {"CSV": ("csv", to_csv), "Markdown": ("md", to_markdown), "LaTeX": ("tex", to_latex)}
_SCRIPTS = ("vendor/tablesort.min.js", "page.js", "browser.js", "fusion.js")
_TABLE_MARKUP = {
    "<table>": '<div class="scroll" tabindex="0" role="region" aria-label="List of deviations">'
    '<table class="data">',
    "</table>": "</table></div>",
    "<th>": '<th scope="col">',
}


@dataclass(frozen=True)
class Picture:
    """A figure beside the page: paths, size in pixels, text for who does not see it, caption."""

    src: str
    dark_src: str
    width: int
    height: int
    alt: str
    caption: str


@dataclass(frozen=True)
class PageTable:
    """A table, or a part of it, as the template takes it; `files` by their format."""

    table: Table
    html: "Markup"
    files: Mapping[str, str]


def write_page(study: Study, output_dir: Path) -> None:
    """Write `output_dir`/index.html and what it shows beside it, from whatever has been run.

    Args:
        study: whose results are shown; fusion maps are read from its results.
        output_dir: folder of the page, which appears complete; an earlier page is replaced.

    Raises:
        DataError: a score or prediction file, a list of fusion maps, or the reported numbers, are
            malformed.
    """
    with folder_built_aside(output_dir, entries=_ENTRIES) as folder:
        _write_page(study, folder)


def _write_page(study: Study, output_dir: Path) -> None:
    results = read_results(study)
    reported = load_reported()
    headlines = find_headlines(results)
    comparisons = compare_methods(results, reported)
    tables = build_tables(results, reported, headlines, comparisons)
    thumbnails = Thumbnails(Path(study.settings.shared_dir) / "thumbnails", output_dir)
    fusion_maps = write_fusion_maps_data(results, output_dir, thumbnails)
    browsers = write_browsers(results, output_dir, thumbnails)
    figures = _draw(results, reported, output_dir)
    thumbnails.warn_of_missing()
    verdicts = verdict_lines(results, reported, tables)
    own = [table.measured_part for table in tables if not table.is_reported_only]
    measured = [replace(table, effects=()) for table in own]  # they stand in the overview
    theirs = [part for table in tables if (part := table.reported_part).blocks]
    files = _write_tables(tables, output_dir)
    html = _render(
        study=study,
        version=__version__,
        commit=code_commit(),
        paper=PAPER,
        verdicts=verdicts,
        verdict_counts=count_verdicts(verdicts),
        answers=answers(headlines),
        rankings=[text for found in comparisons for text in found.sentences],
        items_note=ITEMS_NOTE,
        tasks=runs_by_task(results),
        tables=[_page_table(one, files) for one in measured if one.key not in COST_KEYS],
        cost_tables=[_page_table(one, files) for one in measured if one.key in COST_KEYS],
        reported_tables=[_page_table(one, files) for one in theirs],
        figures=figures,
        fusion_maps=fusion_maps,
        browsers=browsers,
        missing_images=len(thumbnails.missing),
        facts=gather_facts(results),
        other_code=other_code(results),
        differences=differences_to_paper(results),
        deviations=_deviations(),
        runs=results.runs,
    )
    write_text(output_dir / "index.html", html)


def _draw(results: StudyResults, reported: ReportedNumbers, output_dir: Path) -> list[Picture]:
    """Draw the figures once, and write them for a light and for a dark ground."""
    folder = output_dir / "figures"
    pictures = []
    for name, caption in draw_figures(results, reported, folder, suffixes=["svg"]).items():
        svg = (folder / f"{name}.svg").read_text(encoding="utf-8")
        write_text(folder / f"{name}.dark.svg", on_dark(svg))
        paths = (f"figures/{name}.svg", f"figures/{name}.dark.svg")
        pictures.append(Picture(*paths, *_size(svg), FIGURES[name].alt, caption))
    return pictures


def _size(svg: str) -> tuple[int, int]:
    """Return width and height of a figure in pixels, so that the page has room for it at once."""
    found = re.search(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"', svg)
    if found is None:
        raise ValueError("a figure without viewBox")
    width, height = (round(float(points) * 4 / 3) for points in found.groups())
    return width, height


def _write_tables(tables: Sequence[Table], output_dir: Path) -> dict[str, dict[str, str]]:
    """Write each table beside the page, for other programs; return paths by key and format."""
    files: dict[str, dict[str, str]] = {}
    for table in tables:
        for name, (suffix, render) in _FORMATS.items():
            path = f"tables/{table.key}.{suffix}"
            write_text(output_dir / path, render(table))
            files.setdefault(table.key, {})[name] = path
    return files


def _page_table(table: Table, files: Mapping[str, Mapping[str, str]]) -> PageTable:
    return PageTable(table, to_html(table), files[table.key.removeprefix(REPORTED_PREFIX)])


def _render(**content: Any) -> str:
    import jinja2
    from markupsafe import Markup

    templates = resources.files("ademvl.reporting") / "templates"
    script = "\n".join((templates / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ademvl.reporting", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters.update(printable=printable, flatten=flatten)
    style = environment.get_template("page.css.j2").render()
    return environment.get_template("page.html.j2").render(
        style=Markup(style),  # our own files
        style_sha256=_sha256(style),
        script=Markup(script),
        script_sha256=_sha256(script),
        **content,
    )


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _deviations() -> "Markup | None":
    """Render the project's page of deviations; None where it is not beside the package."""
    from markdown_it import MarkdownIt
    from markupsafe import Markup

    if not DEVIATIONS_PAGE.is_file():
        return None
    text = DEVIATIONS_PAGE.read_text(encoding="utf-8").partition("\n")[2]
    html = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    for plain, ours in _TABLE_MARKUP.items():
        html = html.replace(plain, ours)
    # Our own file; the pages that it links to do not lie beside this one.
    return Markup(re.sub(r'<a href="[^"]*">(.*?)</a>', r"\1", html))
