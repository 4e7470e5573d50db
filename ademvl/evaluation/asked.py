"""What a run is asked: which items, known by checksums, and how rows of predictions are scored.

Three checksums say whether two runs were asked the same: of the texts, of the right answers, and of
the bytes of the images. A run from which images are withheld has none of images. Whatever else a
data set holds, such as its training split, has no part in them. No model is needed.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ademvl.config.run import RunSettings
from ademvl.data.captions import (
    CaptionImage,
    karpathy_file,
    load_caption_images,
    parse_evaluation_rows,
)
from ademvl.data.choices import NO_ANSWER
from ademvl.data.mme import MmeAnswer, MmeQuestion, load_benchmark
from ademvl.data.scienceqa import ScienceQA, load_scienceqa
from ademvl.errors import DataError
from ademvl.evaluation.predictions import Row
from ademvl.storage.known_checksums import KnownChecksums

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
    root = Path(run.data_dir)
    if run.task == "coco_caption":
        if run.images == "shown":
            images = load_caption_images(root, run.evaluation.split)
        else:
            images, _ = parse_evaluation_rows(root, run.evaluation.split)
        return ask_captions(root, images, run)
    if run.task == "instruction":
        return ask_mme(load_benchmark(Path(run.evaluation_data_dir)), run)
    return ask_scienceqa(load_scienceqa(root), run)


def ask_scienceqa(dataset: ScienceQA, run: RunSettings) -> Asked:
    """Return what is asked of a run on ScienceQA.

    Raises:
        DataError: an image is missing.
    """
    from ademvl.evaluation.scienceqa import score_scienceqa

    problems = dataset.split(run.evaluation.split)

    def score(rows: Sequence[Row]) -> dict[str, object]:
        predicted = {str(row["id"]): int(str(row["predicted_index"])) for row in rows}
        columns = score_scienceqa(problems, predicted)
        return {
            "columns": {name: column.to_json() for name, column in columns.items()},
            "num_without_answer": sum(index == NO_ANSWER for index in predicted.values()),
        }

    return _asked(
        dataset.root,
        run,
        texts=[{**asdict(problem), "answer_index": None} for problem in problems],
        answers=[problem.answer_index for problem in problems],
        images=[path for problem in problems if (path := dataset.image_path(problem))],
        score=score,
    )


def ask_captions(root: Path, images: Sequence[CaptionImage], run: RunSettings) -> Asked:
    """Return what is asked of a run on captions.

    Raises:
        DataError: an image is missing.
    """

    def score(rows: Sequence[Row]) -> dict[str, object]:
        from ademvl.evaluation.captions.scores import score_captions

        captions = {
            image.image_id: str(row["caption"]) for image, row in zip(images, rows, strict=True)
        }
        references = {image.image_id: image.references for image in images}
        folder = karpathy_file(root, run.evaluation.split).parent
        is_linked = root.is_symlink() or folder.is_symlink()  # to somebody's own files
        beside = None if is_linked else folder
        return score_captions(references, captions, with_ceiling=True, beside=beside).to_json()

    return _asked(
        root,
        run,
        texts=[image.image_id for image in images],
        answers=[image.references for image in images],
        images=[image.image for image in images],
        score=score,
        is_cheap=False,
    )


def ask_mme(questions: Sequence[MmeQuestion], run: RunSettings) -> Asked:
    """Return what is asked of a run on the MME benchmark, whole or some of its tasks.

    Raises:
        DataError: an image is missing.
    """
    from ademvl.evaluation.mme import score_answers

    return _asked(
        Path(run.evaluation_data_dir or run.data_dir),
        run,
        texts=[[question.task, question.image.name, question.question] for question in questions],
        answers=[question.gold for question in questions],
        images=[question.image for question in questions],
        score=lambda rows: score_answers(answers_by_task(questions, rows)),
    )


def answers_by_task(
    questions: Sequence[MmeQuestion], rows: Sequence[Row]
) -> dict[str, list[MmeAnswer]]:
    """Put rows of predictions beside their questions, by task of the benchmark."""
    answers: dict[str, list[MmeAnswer]] = {}
    for question, row in zip(questions, rows, strict=True):
        answer = MmeAnswer(
            question.image.name, question.question, question.gold, str(row["text"]).strip()
        )
        answers.setdefault(question.task, []).append(answer)
    return answers


def _asked(
    root: Path,
    run: RunSettings,
    *,
    texts: Sequence[object],
    answers: Sequence[object],
    images: Sequence[Path],
    score: Callable[[Sequence[Row]], dict[str, object]],
    is_cheap: bool = True,
) -> Asked:
    data = {"texts": _checksum(texts), "answers": _checksum(answers)}
    if run.images == "shown":
        data["images"] = _checksum(_image_digests(root, images))
    return Asked(data=data, score=score, is_cheap=is_cheap)


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
