"""Writes mini questions and captions in the layouts of ScienceQA and COCO captions.

Chooses nothing: what is written is decided in `ademvl.data.mini`.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ademvl.data.easy_vqa import (
    QuestionType,
    SourceImage,
    SourceQuestion,
    is_negated,
    question_type,
)
from ademvl.storage.files import write_json

IMAGE_SIZE = 64
_TEST_OFFSET = 100_000
"""Added to the numbers of the package's test images: it numbers both splits from 0."""
_MINI_SHARE = 10
"""One question in ten is in the minitrain, minival and minitest lists."""


class _Labels(NamedTuple):
    subject: str
    topic: str
    category: str
    skill: str
    lecture: str


_LABELS: Mapping[QuestionType, _Labels] = {
    "color": _Labels(
        "natural science",
        "physics",
        "Light and color",
        "Name the color of a shape",
        "The color of a shape is the color of the light that it sends to the eye.",
    ),
    "shape": _Labels(
        "social science",
        "signs",
        "Signs and symbols",
        "Name a shape",
        "A circle has no corner, a triangle has three corners and a rectangle has four.",
    ),
    "yes_no": _Labels(
        "language science",
        "grammar",
        "Questions and answers",
        "Answer a question about presence",
        "The answer is yes when the shape that the question names is there, and else no.",
    ),
}
_NEGATED = _LABELS["yes_no"]._replace(
    skill="Answer a question about absence",
    lecture="The answer is yes when the shape that the question names is not there, and else no.",
)


@dataclass(frozen=True)
class MiniQuestion:
    """A question as it goes into the ScienceQA layout.

    Attributes:
        source: the package's question.
        text: its wording here.
        choices: options in their order.
        hint: empty for a question that shows its image.
        caption: a caption of the image; equals the hint where there is one.
        grade: 1 to 12.
    """

    source: SourceQuestion
    text: str
    choices: tuple[str, ...]
    hint: str
    caption: str
    grade: int


@dataclass(frozen=True)
class CaptionedImage:
    """An image with its reference captions."""

    source: SourceImage
    references: tuple[str, ...]

    @property
    def image_id(self) -> int:
        """Number that is unique over both splits of the package."""
        is_test = self.source.split == "test"
        return self.source.number + (_TEST_OFFSET if is_test else 0)

    @property
    def file_name(self) -> str:
        """Name in `images/`; ends in the image id, as COCO's file names do."""
        return f"{self.image_id:012d}.png"


class ImageStore:
    """Puts images into place: each is copied once, and linked to that copy from then on."""

    def __init__(self) -> None:
        self._copies: dict[Path, Path] = {}

    def place(self, source: Path, target: Path) -> None:
        """Make `target` an image with the bytes of `source`; copies where links do not work."""
        copy = self._copies.get(source)
        if copy is not None:
            try:
                os.link(copy, target)
                return
            except OSError:
                pass
        shutil.copyfile(source, target)
        self._copies.setdefault(source, target)


def write_scienceqa(
    folder: Path, questions: Mapping[str, Sequence[MiniQuestion]], store: ImageStore
) -> None:
    """Write problems, splits, captions and images; ids count from 1 over the splits in order."""
    problems: dict[str, object] = {}
    captions: dict[str, str] = {}
    splits: dict[str, list[str]] = {}
    for split, items in questions.items():
        splits[split] = []
        for question in items:
            question_id = str(len(problems) + 1)
            splits[split].append(question_id)
            problems[question_id] = _problem(question, split)
            if not question.hint:
                captions[question_id] = question.caption
                image_dir = folder / "images" / split / question_id
                image_dir.mkdir(parents=True)
                store.place(question.source.image.path, image_dir / "image.png")
    splits["trainval"] = splits["train"] + splits["val"]
    for split in questions:
        splits[f"mini{split}"] = splits[split][::_MINI_SHARE]
    write_json(folder / "problems.json", problems)
    write_json(folder / "pid_splits.json", splits)
    write_json(folder / "captions.json", {"model": "templates", "captions": captions})


def write_coco_caption(
    folder: Path, images: Mapping[str, Sequence[CaptionedImage]], store: ImageStore
) -> None:
    """Write images, COCO annotations and the Karpathy-like split files of each split."""
    (folder / "images").mkdir(parents=True)
    for split, items in images.items():
        for item in items:
            store.place(item.source.path, folder / "images" / item.file_name)
        ground_truth = _ground_truth(items)
        annotations = {
            "info": {"description": "easy-VQA with captions from templates"},
            "licenses": [],
            "type": "captions",
            "images": [_image_row(item) for item in items],
            "annotations": ground_truth["annotations"],
        }
        write_json(folder / "annotations" / f"captions_{split}.json", annotations)
        karpathy = folder / "karpathy"
        if split == "train":
            write_json(karpathy / "coco_karpathy_train.json", _training_rows(items))
        else:
            rows = [{"image": item.file_name, "caption": list(item.references)} for item in items]
            write_json(karpathy / f"coco_karpathy_{split}.json", rows)
            write_json(karpathy / f"coco_karpathy_{split}_gt.json", ground_truth)


def _problem(question: MiniQuestion, split: str) -> dict[str, object]:
    source = question.source
    labels = _NEGATED if is_negated(source.text) else _LABELS[question_type(source.text)]
    return {
        "question": question.text,
        "choices": list(question.choices),
        "answer": question.choices.index(source.answer),
        "hint": question.hint,
        "image": None if question.hint else "image.png",
        "task": "closed choice",
        "grade": f"grade{question.grade}",
        **labels._asdict(),
        "solution": f"The shape is a {source.image.color} {source.image.shape}.",
        "split": split,
    }


def _image_row(item: CaptionedImage) -> dict[str, object]:
    return {
        "id": item.image_id,
        "file_name": item.file_name,
        "height": IMAGE_SIZE,
        "width": IMAGE_SIZE,
    }


def _ground_truth(items: Sequence[CaptionedImage]) -> dict[str, list[dict[str, object]]]:
    annotations: list[dict[str, object]] = [
        {
            "id": item.image_id * len(item.references) + place,
            "image_id": item.image_id,
            "caption": caption,
        }
        for item in items
        for place, caption in enumerate(item.references)
    ]
    return {"annotations": annotations, "images": [{"id": item.image_id} for item in items]}


def _training_rows(items: Sequence[CaptionedImage]) -> list[dict[str, str]]:
    return [
        {"caption": caption, "image": item.file_name, "image_id": f"coco_{item.image_id}"}
        for item in items
        for caption in item.references
    ]
