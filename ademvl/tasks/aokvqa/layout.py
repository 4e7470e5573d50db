"""A-OKVQA's folder of a data set: how it is laid out and inspected.

Its images are COCO's of 2017, which are those of 2014 under other names: either is taken.
"""

import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ademvl.config.dataset import DatasetSettings
from ademvl.data.image_checks import ImageUse
from ademvl.data.links import Linker
from ademvl.errors import DataError
from ademvl.storage.files import read_json, write_bytes, write_json
from ademvl.tasks.aokvqa.reader import (
    IMAGES_FILE,
    OFFICIAL_QUESTIONS,
    SPLITS,
    parse_questions,
    questions_file,
)
from ademvl.tasks.coco_caption.coco_images import CocoImages
from ademvl.tasks.coco_caption.copies import find_captions
from ademvl.tasks.copies import first_of, nothing_found
from ademvl.tasks.data_layout import DataLayout, Inspection, place_images

ARCHIVE = "aokvqa_v1p0.tar.gz"
_PREFIXES = ("", "aokvqa/", "datasets/aokvqa/")
_REMEDY = "Download it again, or correct the key `existing` of the data set."


def find_aokvqa(copies: Sequence[Path]) -> tuple[Path, Mapping[str, Path]]:
    """Find the folder of A-OKVQA's questions or their archive, and COCO's folders of images.

    Raises:
        DataError: no known layout; says what was looked for.
    """
    names = [questions_file(Path(), "val").name, ARCHIVE]
    found = first_of(copies, [prefix + name for name in names for prefix in _PREFIXES])
    if found is None:
        looked_for = [f"aokvqa_v1p0_{{{','.join(SPLITS)}}}.json", f"the archive {ARCHIVE}"]
        raise nothing_found("A-OKVQA", copies, looked_for)
    home = found if found.name == ARCHIVE else found.parent
    return home, find_captions([found.parent, *copies]).image_folders


def _lay_out(
    root: Path, settings: DatasetSettings, copies: list[Path], linker: Linker
) -> dict[str, Any]:
    home, folders = find_aokvqa(copies)
    for name, folder in folders.items():
        place_images(folder, root, name, linker)
    if home.name == ARCHIVE:
        _unpack(home, root)
    else:
        for file in (questions_file(home, split) for split in SPLITS):
            if file.is_file():
                linker.place(file, root / file.name)
    names = {
        number: f"{split}2017/{number:012d}.jpg"
        for split in SPLITS
        for number in _image_numbers(root, split)
    }
    found = CocoImages(root / "images", folders).find(names.values())
    write_json(root / IMAGES_FILE, {str(number): found[name] for number, name in names.items()})
    return {"layout": "A-OKVQA v1.0"}


def _unpack(archive: Path, root: Path) -> None:
    """Write the files of questions that an archive holds, and nothing else of it."""
    wanted = {questions_file(root, split).name: questions_file(root, split) for split in SPLITS}
    try:
        with tarfile.open(archive) as opened:
            for member in opened:
                place = wanted.get(Path(member.name).name)
                content = opened.extractfile(member) if place else None
                if place and content:
                    write_bytes(place, content.read())
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{archive}: is no whole archive ({error}). {_REMEDY}") from error


def _image_numbers(root: Path, split: str) -> list[int]:
    """Return the images that a split with public answers asks about."""
    path = questions_file(root, split)
    if split == "test" or not path.is_file():
        return []
    rows = read_json(path, remedy=_REMEDY)
    found = [row.get("image_id") for row in rows if isinstance(row, dict)]
    return [number for number in found if isinstance(number, int)]


def _inspect(root: Path, found: Inspection) -> None:
    found.has_test = False
    for split in ("train", "val"):
        questions, bad = parse_questions(root, split)
        for item_id, text in bad.items():
            found.add(text, item_id, split)
        found.images += [
            ImageUse(item.question_id, f"question {item.question_id}", split, item.image)
            for item in questions
        ]
        found.counts[f"{split} questions"] = len(questions)
        found.expected[f"{split} questions"] = OFFICIAL_QUESTIONS[split]


LAYOUT = DataLayout(find=find_aokvqa, lay_out=_lay_out, inspect=_inspect)
