"""What `ademvl predict` is asked: one image with a question or a caption request, or many of them.

Everything is checked before a model is loaded, and all findings are listed at once.
"""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ademvl.config.task_facts import RequestKind
from ademvl.data.image_files import missing_image_findings, open_rgb, view_differences
from ademvl.data.surrogates import surrogate_findings
from ademvl.errors import MAX_LISTED, DataError, SettingsError, list_findings
from ademvl.prediction.sample_images import PREFIX, find_sample, unknown_sample
from ademvl.runs.trained_adapter import TrainedAdapter
from ademvl.storage.files import parse_json, read_text
from ademvl.tasks.scienceqa.reader import MAX_CHOICES

KEYS = ("id", "image", "question", "choices", "hint", "caption")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|data:")
_MAX_SHOWN = 100
_log = logging.getLogger(__name__)
_REMEDY = (
    'One JSON object a line: {"image": "a.png", "question": "...", "choices": ["...", "..."], '
    '"hint": "..."} or {"image": "a.png", "caption": true}; "id" is optional, and so are image, '
    "choices and hint of a question. Paths of images count from the file's folder; "
    "sample:red_circle.png is one that comes with ademvl."
)


@dataclass(frozen=True, kw_only=True)
class Request:
    """One question, or one image to be captioned.

    Attributes:
        request_id: unique among the requests.
        image: file of the picture; None for a text-only question.
        question: empty for a caption.
        choices: of a multiple-choice question; empty for an open one.
        hint: context of the question.
    """

    request_id: str
    image: Path | None
    question: str = ""
    choices: tuple[str, ...] = ()
    hint: str = ""

    @property
    def wants_caption(self) -> bool:
        """Whether the image is to be described."""
        return not self.question

    @property
    def kind(self) -> RequestKind:
        """What is to be answered."""
        if self.wants_caption:
            return "caption"
        return "choice" if self.choices else "open"


def parse_request(
    raw: object, *, request_id: str, folder: Path
) -> tuple[Request | None, list[str]]:
    """Check one request and return it, or None, with everything that is wrong with it.

    Args:
        raw: the keys of KEYS, as read from JSON.
        request_id: where none is given.
        folder: that the image's path counts from.
    """
    if not isinstance(raw, dict):
        return None, [f"is a {type(raw).__name__}, expected an object"]
    findings = [_unknown(str(key)) for key in raw if key not in KEYS]
    findings += [
        f"{key} is {raw[key]!r}, expected text"
        for key in ("image", "question", "hint")
        if not isinstance(raw.get(key) or "", str)
    ]
    if isinstance(raw.get("image"), str) and _ADDRESS.match(raw["image"]):
        shown = raw["image"][:_MAX_SHOWN]
        findings.append(f"image {shown!r} is an address; only files are read: download it first")
    given_id, caption = raw.get("id", request_id), raw.get("caption", False)
    if not isinstance(given_id, str | int) or isinstance(given_id, bool) or given_id == "":
        findings.append(f"id is {given_id!r}, expected text or a number")
    if not isinstance(caption, bool):
        findings.append(f"caption is {caption!r}, expected true or false")
    findings += _choice_findings(raw.get("choices"))
    findings += _unreadable_findings(raw)
    has_question = bool(str(raw.get("question") or "").strip())
    if has_question == (caption is True):
        wrong = "both a question and a caption" if has_question else "no question, and no caption"
        findings.append(f"{wrong} asked for; expected one of the two")
    if not has_question:
        findings += [f"{key} without a question" for key in ("choices", "hint") if raw.get(key)]
        if caption is True and not raw.get("image"):
            findings.append("a caption needs an image")
    image, unknown = _image_path(raw.get("image"), folder)
    findings += unknown
    if findings:
        return None, findings
    request = Request(
        request_id=str(given_id),
        image=image,
        question=raw.get("question") or "",
        choices=tuple(raw.get("choices") or ()),
        hint=raw.get("hint") or "",
    )
    return request, []


def _image_path(named: object, folder: Path) -> tuple[Path | None, list[str]]:
    """Return the file of an image, or of a sample, and that there is no such sample."""
    if not named or not isinstance(named, str):
        return None, []
    if not named.startswith(PREFIX):
        return folder / named, []
    sample = find_sample(named.removeprefix(PREFIX))
    return sample, [] if sample else [unknown_sample(named.removeprefix(PREFIX))]


def _unknown(key: str) -> str:
    near = get_close_matches(key, KEYS, n=1)
    return f"unknown key {key!r}" + (f"; did you mean {near[0]}?" if near else "")


def _unreadable_findings(raw: Mapping[str, Any]) -> list[str]:
    """Say which texts hold what no model or file system could read."""
    choices = raw.get("choices")
    texts = [(key, raw.get(key)) for key in ("id", "image", "question", "hint")]
    texts += [("a choice", choice) for choice in (choices if isinstance(choices, list) else ())]
    return surrogate_findings(texts) + [
        f"{name} holds a null character, which no text and no path has"
        for name, text in texts
        if isinstance(text, str) and "\0" in text
    ]


def _choice_findings(choices: Any) -> list[str]:
    if choices is None:
        return []
    texts = isinstance(choices, list) and all(isinstance(c, str) and c.strip() for c in choices)
    if not texts:
        return [f"choices are {choices!r}, expected a list of texts"]
    if not 2 <= len(choices) <= MAX_CHOICES:
        return [f"{len(choices)} choices, expected 2 to {MAX_CHOICES}"]
    return []


def read_requests(path: Path) -> list[Request]:
    """Read a JSONL file of requests; blank lines are skipped.

    Raises:
        DataError: the file cannot be read or holds nothing; or lists every line that is malformed
            or repeats an id, with its number.
    """
    lines = read_text(path, remedy=_REMEDY).split("\n")
    requests: list[Request] = []
    findings: list[str] = []
    places: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            raw = parse_json(line, place=f"line {number}", remedy="", half_characters=True)
        except DataError as error:
            findings.append(str(error).rstrip())
            continue
        request, wrong = parse_request(raw, request_id=str(number), folder=path.parent)
        findings += [f"line {number}: {what}" for what in wrong]
        if request is None:
            continue
        if request.request_id in places:
            first = places[request.request_id]
            findings.append(f"line {number}: id {request.request_id!r} is that of line {first}")
        places.setdefault(request.request_id, number)
        requests.append(request)
    if findings:
        raise DataError(list_findings(f"{path}: malformed requests", findings, _REMEDY))
    if not requests:
        raise DataError(f"{path}: no request in it. {_REMEDY}")
    return requests


def refuse_withheld_images(trained: TrainedAdapter, requests: Sequence[Request]) -> None:
    """Make sure that a text-only control is shown no image.

    Raises:
        SettingsError: it would be.
    """
    if trained.run.images == "withheld" and any(r.image is not None for r in requests):
        raise SettingsError(
            f"{trained.folder}: a text-only control, which has never seen an image; "
            "ask without images, or name another run"
        )


def check_request_images(requests: Sequence[Request]) -> None:
    """Make sure that every image is there and decodes; warn where a viewer shows another picture.

    Raises:
        DataError: lists those that are missing, empty or no image, with their request.
    """
    entries = [(f"request {r.request_id}", r.image) for r in requests if r.image is not None]
    findings = missing_image_findings(entries)
    if not findings:
        findings = list(_undecodable(entries))
    if findings:
        remedy = "Correct the paths, or give images that can be opened (PNG, JPEG, ...)."
        raise DataError(list_findings("images cannot be read", findings, remedy))
    _warn_of_differences(dict.fromkeys(path for _, path in entries))


def _warn_of_differences(paths: Iterable[Path]) -> None:
    differing = [f"{path}: {', '.join(what)}" for path in paths if (what := view_differences(path))]
    if differing:
        more = f"\n... and {len(differing) - MAX_LISTED} more" if differing[MAX_LISTED:] else ""
        _log.warning(
            "the model sees other pictures than a viewer shows:\n%s%s",
            "\n".join(differing[:MAX_LISTED]),
            more,
        )


def _undecodable(entries: Iterable[tuple[str, Path]]) -> Iterable[str]:
    owners: dict[Path, str] = {}
    for owner, path in entries:
        owners.setdefault(path, owner)
    for path, owner in owners.items():
        try:
            open_rgb(path)
        except DataError as error:
            yield f"{owner}: {error}"
