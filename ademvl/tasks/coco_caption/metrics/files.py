"""Scores caption files that other programs wrote against references in COCO's form.

Results are COCO's (a list of image_id and caption, alone or under `annotations`), a map from image
id to caption, one object a line as our own predictions, or a table.
What a caption holds is kept: line breaks count as blanks, a lone surrogate as a dropped character,
length is not limited. Captions without words score zero. Each of these is counted and said.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ademvl.data.surrogates import HALF_CHARACTER
from ademvl.errors import DataError, ToolError, list_findings
from ademvl.tasks.coco_caption.metrics import meteor, spice
from ademvl.tasks.coco_caption.metrics.java import JavaLimits
from ademvl.tasks.coco_caption.metrics.ptb import Tokenizer, tokenize_sentences
from ademvl.tasks.coco_caption.metrics.scores import (
    METRICS,
    OptionalMetric,
    check_captions,
    score_captions,
)
from ademvl.tasks.coco_caption.reader import load_coco_references
from ademvl.tasks.row_files import read_rows_or_json, single_value
from ademvl.tasks.score_table import describe_file, interval_cell
from ademvl.text_table import aligned

LONG_CAPTION = 1000

_REMEDY = 'Give a list of {"image_id": number, "caption": text}, one for each image.'
_SPLIT_IN_NAME = re.compile(r"(?:^|[_.-])(train|val|test)(?=\d{4}|[_.-]|$)", re.IGNORECASE)
_BREAKS = re.compile("[\n\r\x0b\x0c\u2028\u2029]")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CaptionOptions:
    """What to compute beside BLEU, CIDEr and ROUGE-L, and what it may take.

    Attributes:
        with_meteor, with_spice: whether to compute them.
        spice_parser: folder of Stanford CoreNLP; None for that of pycocoevalcap.
        tokenize: tokenizes sentences.
        meteor_limits, spice_limits: time and memory of their Java programs.
    """

    with_meteor: bool = False
    with_spice: bool = False
    spice_parser: Path | None = None
    tokenize: Tokenizer = tokenize_sentences
    meteor_limits: JavaLimits = meteor.LIMITS
    spice_limits: JavaLimits = spice.LIMITS

    def metrics(self) -> dict[str, OptionalMetric]:
        """Return the optional metrics by name."""
        found: dict[str, OptionalMetric] = {}
        if self.with_meteor:
            found["METEOR"] = partial(meteor.score_meteor, limits=self.meteor_limits)
        if self.with_spice:
            found["SPICE"] = partial(
                spice.score_spice, parser_dir=self.spice_parser, limits=self.spice_limits
            )
        return found


@dataclass(frozen=True)
class Results:
    """Captions by image id, and which of them are out of the ordinary, by kind."""

    captions: Mapping[int, str]
    notes: Mapping[str, Sequence[int]] = field(default_factory=dict)


def score_caption_file(
    references_file: Path,
    results_file: Path,
    *,
    options: CaptionOptions,
    split: str | None = None,
) -> dict[str, Any]:
    """Score a file of captions; the result is ready for JSON.

    Without Java nothing can be tokenized, so no metric is run; the result then says so for each.

    Args:
        references_file: captions in COCO's form, such as coco_karpathy_test_gt.json.
        results_file: captions to score.
        options: optional metrics and limits.
        split: name of the split; None reads it off the name of the references.

    Raises:
        DataError: a file is missing or malformed; or lists images that have no caption, more than
            one, one that is no text, or no references.
    """
    references = load_coco_references(references_file)
    results = read_results(results_file)
    if not references:
        raise DataError(f"{references_file}: holds no captions to score by; name another file.")
    check_captions(references, results.captions)
    for note, image_ids in results.notes.items():
        shown = ", ".join(map(str, image_ids[:20]))
        _log.warning("%d captions %s: images %s", len(image_ids), note, shown)
    optional = options.metrics()
    try:
        scores = score_captions(
            references,
            results.captions,
            optional=optional,
            tokenize=options.tokenize,
        ).to_json()
    except ToolError as error:
        reason = f"captions could not be tokenized: {error}"
        _log.warning("no metric was run: %s", reason)
        scores = {
            "n": len(references),
            "num_references": sum(map(len, references.values())),
            "metrics": {},
            "not_run": dict.fromkeys((*METRICS, *optional), reason),
        }
    notes = {note: list(image_ids) for note, image_ids in results.notes.items()}
    return scores | {
        "task": "captions",
        "split": split or split_in_name(references_file.name),
        "references": describe_file(references_file),
        "results": describe_file(results_file),
        "notes": notes,
    }


def caption_table(scores: Mapping[str, Any]) -> str:
    """Render the metrics with their intervals, and those that were not run."""
    rows = [
        [name, f"{metric['percent']:.1f}", interval_cell(metric, decimals=1)]
        for name, metric in scores["metrics"].items()
    ]
    split = scores["split"] or "not known, name it with --split"
    lines = [f"split: {split}; {scores['n']} images, {scores['num_references']} references"]
    if rows:
        lines.append("\n".join(aligned([["metric", "x 100", "95 %"], *rows])))
        methods = dict.fromkeys(metric["method"] for metric in scores["metrics"].values())
        lines.append("95 %: " + "; CIDEr: ".join(methods))
    if scores.get("num_empty"):
        lines.append(f"{scores['num_empty']} captions without words score zero")
    for name, reason in scores["not_run"].items():
        lines.append(f"{name}: not run ({reason.removeprefix(f'{name}: ')})")
    return "\n".join(lines)


def split_in_name(name: str) -> str | None:
    """Return the split that a reference file's name states, None where it names none.

    "coco_karpathy_test_gt.json" gives "karpathy test", "captions_val2017.json" gives "val2017".
    """
    found = _SPLIT_IN_NAME.search(name)
    if not found:
        return None
    year = re.match(r"\d{4}", name[found.end() :])
    split = found[1].lower() + (year[0] if year else "")
    return f"karpathy {split}" if "karpathy" in name.lower() else split


def read_results(path: Path) -> Results:
    """Read captions in COCO's result form, alone or under `annotations`, or one object a line.

    Ids are numbers, or texts of digits; they may be the keys of one object as well. Our own
    predictions name the image `id`. Tables have columns image_id and caption.

    Raises:
        DataError: malformed file; or lists rows without image id, captions that are no text, and
            images with more than one caption.
    """
    content = read_rows_or_json(path, remedy=_REMEDY)
    if isinstance(content, dict):
        content = _rows_of(content)
    if not isinstance(content, list):
        raise DataError(f"{path}: holds a {type(content).__name__}, expected a list. {_REMEDY}")
    findings = []
    captions: dict[int, str] = {}
    for number, row in enumerate(content, start=1):
        fields = row if isinstance(row, dict) else {}
        image_id = _image_id(fields.get("image_id", fields.get("id")))
        caption = fields.get("caption")
        if image_id is None:
            findings.append(f"row {number}: no image id that is a number")
        elif image_id in captions:
            findings.append(f"row {number}: image {image_id} has more than one caption")
        elif not isinstance(caption, str):
            found = type(caption).__name__ if "caption" in fields else "missing"
            findings.append(f"row {number}: caption of image {image_id} is {found}, expected text")
        else:
            captions[image_id] = caption
    if findings:
        raise DataError(list_findings(f"{path}: captions cannot be read", findings, _REMEDY))
    return Results(captions, _notes(captions))


def _rows_of(content: Mapping[str, Any]) -> object:
    """Return the rows of one object: a row itself, under `annotations`, or a map by image id."""
    if {"id", "image_id"} & content.keys():
        return [content]
    if "annotations" in content:
        return content["annotations"]
    rows = []
    for key, value in content.items():
        caption = single_value(value)  # pycocoevalcap's maps hold lists of one
        if isinstance(caption, dict) and "caption" in caption:
            caption = caption["caption"]
        rows.append({"image_id": key, "caption": caption})
    return rows


def _image_id(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 18:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _notes(captions: Mapping[int, str]) -> dict[str, list[int]]:
    """Return the images whose caption is out of the ordinary, by what is done with it."""
    kinds: dict[str, Callable[[str], object]] = {
        "hold line breaks, which count as blanks": _BREAKS.search,
        "hold lone surrogates, which are dropped": HALF_CHARACTER.search,
        f"are longer than {LONG_CAPTION} characters": lambda text: len(text) > LONG_CAPTION,
    }
    found = {
        note: [image_id for image_id, text in captions.items() if is_so(text.strip())]
        for note, is_so in kinds.items()
    }
    return {note: image_ids for note, image_ids in found.items() if image_ids}
