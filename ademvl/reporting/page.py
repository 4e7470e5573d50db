"""The study's page: one HTML file with tables, figures, fusion maps and provenance inside.

It opens from the file system, loads nothing from anywhere, and runs no script; its content security
policy forbids both. Texts of data and settings are escaped by the template engine.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from ademvl import __version__
from ademvl.config.study import Study
from ademvl.files import read_json, write_text
from ademvl.reporting.figures import FIGURES
from ademvl.reporting.layout import Table, printable
from ademvl.reporting.reported import REPORTED_DIR, load_reported
from ademvl.reporting.results import StudyResults, read_results
from ademvl.reporting.summary import compare_with_controls
from ademvl.reporting.tables import build_tables

_MEDIA_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}
_FIGURE_TEXTS = {
    "learning_curves": (
        "Training loss by optimiser step, one colour for each run.",
        "Training loss by optimiser step. A thin line is a seed, a thick one the mean over seeds.",
    ),
    "accuracy_by_category": (
        "Accuracy of each run in every question category, with 95 % intervals.",
        "Accuracy by category with 95 % intervals; the same numbers stand in the table above.",
    ),
}


@dataclass(frozen=True)
class Picture:
    """A picture inside the page: data URI, text for those who do not see it, and caption."""

    uri: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Footnotes:
    """Numbers of a table's footnotes, with the prefix of their anchors in the page."""

    anchor: str
    by_note: Mapping[str, int]

    def of(self, notes: Iterable[str]) -> list[int]:
        """Return the numbers of some notes, ascending."""
        return sorted(self.by_note[note] for note in notes if note)


@dataclass(frozen=True)
class PageTable:
    """A table as the template takes it."""

    content: Table

    @property
    def key(self) -> str:
        """Anchor of the section."""
        return self.content.key

    @property
    def short_title(self) -> str:
        """Heading of the section."""
        return self.content.short_title

    @property
    def footnotes(self) -> Footnotes:
        """Numbered footnotes."""
        return Footnotes(f"{self.key}-note", self.content.footnotes())


def write_page(study: Study, output_dir: Path, *, reported_dir: Path = REPORTED_DIR) -> None:
    """Write `output_dir`/index.html from whatever has been run and drawn.

    Args:
        study: whose results are shown; figures and fusion maps are read from its results.
        output_dir: folder of the page, which is a single file.
        reported_dir: numbers of others.

    Raises:
        DataError: a score file, a list of fusion maps, or the reported numbers, are malformed.
    """
    import jinja2
    from markupsafe import Markup

    results = read_results(study)
    templates = resources.files("ademvl.reporting") / "templates"
    style = (templates / "page.css").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ademvl.reporting", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters["printable"] = printable
    environment.filters["flatten"] = flatten
    html = environment.get_template("page.html.j2").render(
        study=study,
        version=__version__,
        style=Markup(style),  # our own file
        style_sha256=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        comparisons=compare_with_controls(results),
        unfinished=[run for run in results.runs if run.state != "finished"],
        tables=[PageTable(table) for table in build_tables(results, load_reported(reported_dir))],
        figures=list(_figures(study)),
        fusion_maps=list(_fusion_maps(results)),
        runs=results.runs,
    )
    write_text(output_dir / "index.html", html)


def flatten(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested content as dotted keys and texts."""
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flatten(value, f"{name}.")
        else:
            yield name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _figures(study: Study) -> Iterator[Picture]:
    for name in FIGURES:
        path = study.results_dir / "figures" / f"{name}.svg"
        if path.is_file():
            alt, caption = _FIGURE_TEXTS[name]
            yield Picture(_data_uri(path), alt, caption)


def _fusion_maps(results: StudyResults) -> Iterator[Picture]:
    for run in results.runs:
        for seed in run.seeds:
            path = seed.run_dir / "fusion_maps" / "fusion_maps.json"
            if not path.is_file():
                continue
            content = read_json(path, remedy="Delete the file and run the same command again.")
            for item in content["items"]:
                words = ", ".join(word["word"] for word in item["words"])
                yield Picture(
                    _data_uri(path.parent / item["picture"]),
                    f"Image patches kept for the words {words}.",
                    f"{run.label}, seed {seed.settings.seed}: {item['question']} "
                    f"Answer: {item['answer']}.",
                )


def _data_uri(path: Path) -> str:
    encoded = base64.b64encode(path.read_bytes()).decode()
    return f"data:{_MEDIA_TYPES[path.suffix]};base64,{encoded}"
