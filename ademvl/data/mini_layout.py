"""Writes mini questions and captions in the layouts of ScienceQA and COCO captions.

Chooses nothing: what is written is decided in `ademvl.data.mini` and `ademvl.data.many_shapes`.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from ademvl.config.dataset import DatasetSettings
from ademvl.data.findings import VERIFICATION_FILES
from ademvl.storage.files import sha256_file, write_json
from ademvl.storage.folders import folder_built_aside

IMAGE_SIZE = 64
_ENTRIES = ("scienceqa", "coco_caption", "manifest.json", *VERIFICATION_FILES)
_MINI_SHARE = 10
"""One question in ten is in the minitrain, minival and minitest lists."""


class Labels(NamedTuple):
    """What ScienceQA says about a sort of question."""

    subject: str
    topic: str
    category: str
    skill: str
    lecture: str


class MiniImage(Protocol):
    """An image that can be written."""

    @property
    def image_id(self) -> int:
        """Number that is unique over all splits."""

    def write(self, target: Path) -> None:
        """Write it as a PNG file."""


@dataclass(frozen=True)
class MiniQuestion:
    """A question as it goes into the ScienceQA layout.

    Attributes:
        image: what it is about.
        text: the question.
        choices: options in their order.
        answer: the right one.
        hint: empty for a question that shows its image.
        caption: a caption of the image; equals the hint where there is one.
        grade: 1 to 12.
        kind: what it asks for; the manifest counts them.
        labels: of its sort.
        solution: what the image shows.
    """

    image: MiniImage
    text: str
    choices: tuple[str, ...]
    answer: str
    hint: str
    caption: str
    grade: int
    kind: str
    labels: Labels
    solution: str


@dataclass(frozen=True)
class CaptionedImage:
    """An image with its reference captions."""

    image: MiniImage
    references: tuple[str, ...]

    @property
    def file_name(self) -> str:
        """Name in `images/`; ends in the image id, as COCO's file names do."""
        return f"{self.image.image_id:012d}.png"


@dataclass(frozen=True)
class MiniSplit:
    """What goes into one split of both layouts."""

    questions: tuple[MiniQuestion, ...]
    caption_images: tuple[CaptionedImage, ...]


class ImageStore:
    """Puts images into place: each is written once, and linked to that file from then on."""

    def __init__(self) -> None:
        self._written: dict[int, Path] = {}

    def place(self, image: MiniImage, target: Path) -> None:
        """Make `target` a file of the image; writes it again where links do not work."""
        written = self._written.get(image.image_id)
        if written is not None:
            try:
                os.link(written, target)
                return
            except OSError:
                pass
        image.write(target)
        self._written.setdefault(image.image_id, target)


def write_mini(
    output_dir: Path,
    settings: DatasetSettings,
    splits: Mapping[str, MiniSplit],
    *,
    source: Mapping[str, str],
    description: str,
) -> None:
    """Write `scienceqa/`, `coco_caption/` and `manifest.json` under `output_dir`.

    The folder appears complete or not at all; an earlier one is replaced.

    Args:
        output_dir: must not exist, be empty, or hold an earlier data set.
        splits: its content by name.
        source: where it is from, for the manifest.
        description: the same in words, for COCO's files.

    Raises:
        DataError: `output_dir` holds something else.
    """
    store = ImageStore()
    with folder_built_aside(output_dir, entries=_ENTRIES) as folder:
        images = {name: split.caption_images for name, split in splits.items()}
        write_coco_caption(folder / "coco_caption", images, store, description=description)
        questions = {name: split.questions for name, split in splits.items()}
        write_scienceqa(folder / "scienceqa", questions, store)
        files = sorted(folder.rglob("*.json"))
        manifest = {
            "source": source,
            "settings": settings.to_plain(),
            "counts": {name: _counts(split) for name, split in splits.items()},
            "sha256": {path.relative_to(folder).as_posix(): sha256_file(path) for path in files},
        }
        write_json(folder / "manifest.json", manifest)


def _counts(split: MiniSplit) -> dict[str, int]:
    kinds = Counter(question.kind for question in split.questions)
    shown = {question.image.image_id for question in split.questions if not question.hint}
    return {
        "questions": len(split.questions),
        "text_only_questions": sum(bool(question.hint) for question in split.questions),
        "question_images": len(shown),
        "caption_images": len(split.caption_images),
        **{f"{kind}_questions": number for kind, number in kinds.items()},
    }


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
                store.place(question.image, image_dir / "image.png")
    splits["trainval"] = splits["train"] + splits["val"]
    for split in questions:
        splits[f"mini{split}"] = splits[split][::_MINI_SHARE]
    write_json(folder / "problems.json", problems)
    write_json(folder / "pid_splits.json", splits)
    write_json(folder / "captions.json", {"model": "templates", "captions": captions})


def write_coco_caption(
    folder: Path,
    images: Mapping[str, Sequence[CaptionedImage]],
    store: ImageStore,
    *,
    description: str,
) -> None:
    """Write images, COCO annotations and the Karpathy-like split files of each split."""
    (folder / "images").mkdir(parents=True)
    for split, items in images.items():
        for item in items:
            store.place(item.image, folder / "images" / item.file_name)
        ground_truth = _ground_truth(items)
        annotations = {
            "info": {"description": description},
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
    return {
        "question": question.text,
        "choices": list(question.choices),
        "answer": question.choices.index(question.answer),
        "hint": question.hint,
        "image": None if question.hint else "image.png",
        "task": "closed choice",
        "grade": f"grade{question.grade}",
        **question.labels._asdict(),
        "solution": question.solution,
        "split": split,
    }


def _image_row(item: CaptionedImage) -> dict[str, object]:
    return {
        "id": item.image.image_id,
        "file_name": item.file_name,
        "height": IMAGE_SIZE,
        "width": IMAGE_SIZE,
    }


def _ground_truth(items: Sequence[CaptionedImage]) -> dict[str, list[dict[str, object]]]:
    annotations: list[dict[str, object]] = [
        {
            "id": item.image.image_id * len(item.references) + place,
            "image_id": item.image.image_id,
            "caption": caption,
        }
        for item in items
        for place, caption in enumerate(item.references)
    ]
    return {"annotations": annotations, "images": [{"id": item.image.image_id} for item in items]}


def _training_rows(items: Sequence[CaptionedImage]) -> list[dict[str, str]]:
    return [
        {"caption": caption, "image": item.file_name, "image_id": f"coco_{item.image.image_id}"}
        for item in items
        for caption in item.references
    ]
