"""What a run is asked: which items, known by checksums, and how rows of predictions are scored.

Three checksums say whether two runs were asked the same: of the texts, of the right answers, and of
the bytes of the images. A run from which images are withheld has none of images. Whatever else a
data set holds, such as its training split, has no part in them. No model is needed.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ademvl.config.run import RunSettings
from ademvl.errors import DataError
from ademvl.storage.known_checksums import KnownChecksums
from ademvl.tasks.base import Questions, Row
from ademvl.tasks.registry import questions_of

KNOWN_FILE = ".known_checksums"
"""In the folder of a data set: checksums of images that were read before; may be deleted."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a task asks of a run.

    Attributes:
        data: checksums by `texts`, `answers` and, where images are shown, `images`.
        score: scores of all rows, ready for JSON.
        is_cheap: whether scoring takes less than a second or two.
    """

    data: Mapping[str, str]
    score: Callable[[Sequence[Row]], dict[str, object]]
    is_cheap: bool


def asked_of(run: RunSettings) -> Asked:
    """Read what a run is asked.

    Raises:
        DataError: the data set or an image is missing, or malformed.
    """
    return ask(questions_of(run, look_at_images=run.images == "shown"), run)


def ask(questions: Questions, run: RunSettings) -> Asked:
    """Return what is asked of a run, of questions that were read.

    Raises:
        DataError: an image is missing.
    """
    data = {"texts": _checksum(questions.texts), "answers": _checksum(questions.answers)}
    if run.images == "shown":
        data["images"] = _checksum(_image_digests(Path(run.evaluated_dir), questions.images))
    return Asked(data=data, score=questions.score, is_cheap=questions.is_cheap)


def _image_digests(root: Path, images: Sequence[Path]) -> list[str]:
    from ademvl.vision.features.image_digests import digest_images

    known = KnownChecksums(root / KNOWN_FILE)
    digests = digest_images(images, progress=True, known=known)
    known.save()
    return [digests[image] for image in images]


def _checksum(values: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def items_of(run: RunSettings) -> tuple[str, ...]:
    """Return what decides on which items a run is asked, as long as no data set changes."""
    return (run.task, run.data_dir, run.evaluation_data_dir, run.evaluation.split)


def other_parts(first: Mapping[str, object], second: Mapping[str, object]) -> list[str]:
    """Name the parts of what was asked in which two runs differ; those that one lacks are equal."""
    return [part for part in first if part in second and first[part] != second[part]]


def asked_now(run: RunSettings) -> Asked | None:
    """Return what a run would be asked now; without images where these are not there.

    None where the data set is not there or cannot be read.
    """
    for images in (run.images, "withheld"):
        with contextlib.suppress(DataError):
            return asked_of(replace(run, images=images))
    return None
