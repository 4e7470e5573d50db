"""SPICE, by the jar that pycocoevalcap ships, where the parser that it needs is at hand.

That parser, Stanford CoreNLP 3.6.0 with its models, is in no Python package. It is never downloaded
here: without it SPICE is not run, and the message says where to get it.
"""

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ademvl.errors import DataError, ToolError
from ademvl.randomness import derive_seed
from ademvl.statistics.intervals import Estimate, bootstrap_intervals
from ademvl.storage.files import read_json
from ademvl.tasks.coco_caption.metrics.java import JavaLimits, package_file, run_java

LIMITS = JavaLimits(timeout_seconds=3600.0, max_heap_mib=8192)
PARSER_JARS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")

_TOOL = "SPICE"
_PARSER_URL = "https://nlp.stanford.edu/software/stanford-corenlp-full-2015-12-09.zip"


def score_spice(
    references: Mapping[int, Sequence[str]],
    hypotheses: Mapping[int, Sequence[str]],
    seed: int,
    *,
    parser_dir: Path | None = None,
    limits: JavaLimits = LIMITS,
) -> Estimate:
    """Return the mean F-score over images with a bootstrap interval.

    Args:
        references: tokenized references by image id.
        hypotheses: one tokenized caption for each of the same images.
        seed: of the resamples.
        parser_dir: folder that holds PARSER_JARS; None for the `spice/lib` of pycocoevalcap,
            where its own downloader puts them.
        limits: of the jar's time and memory.

    Raises:
        ToolError: the parser is not there; no Java runtime, it failed or ran too long, or its
            result is not complete.
    """
    from pycocoevalcap.spice import spice

    package = Path(spice.__file__).parent
    libraries = package / "lib"
    parser = [_parser_jar(parser_dir or libraries, name) for name in PARSER_JARS]
    jars = [package_file(package, spice.SPICE_JAR, tool=_TOOL), *parser]
    jars += sorted(path for path in libraries.glob("*.jar") if path.name not in PARSER_JARS)
    rows = [
        {"image_id": image_id, "test": hypotheses[image_id][0], "refs": list(texts)}
        for image_id, texts in references.items()
    ]
    with tempfile.TemporaryDirectory(prefix="ademvl-spice-") as folder:
        captions, results = Path(folder) / "captions.json", Path(folder) / "results.json"
        captions.write_text(json.dumps(rows), encoding="utf-8")
        arguments = ["-cp", ":".join(map(str, jars)), "edu.anu.spice.SpiceScorer", str(captions)]
        arguments += ["-out", str(results), "-subset", "-silent"]
        run_java(arguments, tool=_TOOL, limits=limits)
        scores = _parse(results, list(references))
    values = np.array(scores, dtype=np.float64)[:, None]  # (n, 1)
    (interval,) = bootstrap_intervals(
        values,
        lambda sums: sums / len(values),
        seed=derive_seed(seed, "caption bootstrap"),
        limits=[(0.0, 1.0)],
    )
    return Estimate(
        value=float(values.mean()),
        ci_low=interval.low,
        ci_high=interval.high,
        n=len(values),
        method=interval.method,
    )


def _parser_jar(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise ToolError(
            f"{_TOOL}: no {name} in {folder}. Get {_PARSER_URL}, unpack it and name its folder "
            "(--spice-parser)."
        )
    return path


def _parse(path: Path, image_ids: Sequence[int]) -> list[float]:
    """Return the F-score of each image from what the jar wrote."""
    try:
        rows: Any = read_json(path, remedy="Please report it.")
        scores = {row["image_id"]: float(row["scores"]["All"]["f"]) for row in rows}
        found = [scores[image_id] for image_id in image_ids]
    except (DataError, KeyError, TypeError, ValueError) as error:
        raise ToolError(f"{_TOOL}: its result is not complete: {error}") from error
    if not all(map(math.isfinite, found)):
        raise ToolError(f"{_TOOL}: an image without a score in its result")
    return found
