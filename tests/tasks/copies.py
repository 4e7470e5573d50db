"""Writes small copies of data sets in the layouts that people have them in."""

import json
from pathlib import Path
from typing import Any

from PIL import Image

from ademvl.config.dataset import DatasetSettings
from ademvl.tasks.coco_caption.reader import load_caption_images, load_caption_train
from ademvl.tasks.layout import make_dataset

OTHER_FIELDS = {
    "hint": "",
    "task": "closed choice",
    "grade": "grade3",
    "subject": "natural science",
    "topic": "t",
    "category": "c",
    "skill": "s",
    "lecture": "",
    "solution": "",
}
SIZES = {"train": 4, "val": 2, "test": 2}


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_image(path: Path, shade: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (30 * shade % 256, 0, 0)).save(path)
    return path


def scienceqa_problems() -> dict[str, dict[str, Any]]:
    """Problems with ids 10, 11, ...; every second one has an image."""
    splits = [split for split, size in SIZES.items() for _ in range(size)]
    return {
        str(10 + number): {
            **OTHER_FIELDS,
            "question": f"Which is {number}?",
            "choices": ["a", "b"],
            "answer": number % 2,
            "image": None if number % 2 else "image.png",
            "split": split,
        }
        for number, split in enumerate(splits)
    }


def write_scienceqa(problems_file: Path, images: Path, captions: Path | None = None) -> None:
    """Write problems, splits beside them, images below `images`, captions."""
    problems = scienceqa_problems()
    write_json(problems_file, problems)
    splits = {
        split: [key for key, row in problems.items() if row["split"] == split] for split in SIZES
    }
    write_json(problems_file.parent / "pid_splits.json", splits)
    for key, row in problems.items():
        if row["image"]:
            write_image(images / row["split"] / key / "image.png", int(key))
    if captions:
        write_json(captions, {"captions": {"10": "a shade"}})


def coco_name(number: int, folder: str = "train2014") -> str:
    return f"{folder}/COCO_{folder}_{number:012d}.jpg"


def write_coco_images(images: Path) -> None:
    """Write train2014 with images 1 to 3 and val2014 with 4 to 7."""
    for number in range(1, 8):
        write_image(images / coco_name(number, "train2014" if number < 4 else "val2014"), number)


def write_blip_splits(folder: Path, *, with_references: bool) -> None:
    """Write Karpathy splits: images 1 to 5 train, 6 val, 7 test."""
    train = [
        {
            "image": coco_name(number, "train2014" if number < 4 else "val2014"),
            "image_id": f"coco_{number}",
            "caption": f"caption {number}",
        }
        for number in range(1, 6)
    ]
    write_json(folder / "coco_karpathy_train.json", train)
    for split, number in (("val", 6), ("test", 7)):
        captions = [f"one {number}", f"two {number}"]
        rows = [{"image": coco_name(number, "val2014"), "caption": captions}]
        write_json(folder / f"coco_karpathy_{split}.json", rows)
        if with_references:
            references = {
                "images": [{"id": number}],
                "annotations": [
                    {"id": place, "image_id": number, "caption": text}
                    for place, text in enumerate(captions)
                ],
            }
            write_json(folder / f"coco_karpathy_{split}_gt.json", references)


def write_karpathy_combined(path: Path) -> None:
    """Write the same splits in Karpathy's own form; 4 and 5 are his `restval`."""
    splits = dict.fromkeys((1, 2, 3), "train") | dict.fromkeys((4, 5), "restval")
    images = []
    for number, split in (splits | {6: "val", 7: "test"}).items():
        folder = "train2014" if number < 4 else "val2014"
        texts = [f"caption {number}"] if number < 6 else [f"one {number}", f"two {number}"]
        images.append(
            {
                "filepath": folder,
                "filename": Path(coco_name(number, folder)).name,
                "cocoid": number,
                "split": split,
                "sentences": [
                    {"sentid": number * 10 + place, "raw": text} for place, text in enumerate(texts)
                ],
            }
        )
    write_json(path, {"images": images, "dataset": "coco"})


def instruction_rows() -> list[dict[str, Any]]:
    return [
        {
            "qid": "alpaca_0",
            "instruction": "Instruction: Say hello.\nResponse:",
            "answer": "hello",
            "image": None,
            "image_source": None,
            "options": None,
        },
        {
            "qid": "gpt4_0",
            "instruction": "Instruction: What is it?\nResponse:",
            "answer": "a shade",
            "image": "000000000001.jpg",
            "image_source": "mscoco",
            "options": None,
        },
    ]


def write_mme(root: Path) -> None:
    """Write two questions of each category, half of the categories in the divided form."""
    from ademvl.tasks.mme.reader import TASKS

    for number, category in enumerate(TASKS):
        texts = root / category / ("questions_answers_YN" if number % 2 else "")
        images = root / category / ("images" if number % 2 else "")
        write_image(images / f"{number}.png", number)
        texts.mkdir(parents=True, exist_ok=True)
        lines = ["Is it red? Please answer yes or no.\tYes", "Is it blue?\tNo"]
        (texts / f"{number}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def lay_out(shared: Path, **settings) -> Path:
    """Make a data set; return the folder of its only task."""
    chosen = DatasetSettings(subset=True, **settings)
    manifest = shared / "data" / "set" / "manifest.json"
    make_dataset(manifest, chosen)
    return manifest.parent / chosen.tasks[0]


def check_caption_splits(root: Path) -> None:
    """Make sure that the splits of `write_blip_splits` were laid out."""
    train = load_caption_train(root)
    assert [(item.image_id, item.caption) for item in train] == [
        (number, f"caption {number}") for number in range(1, 6)
    ]
    for split, number in (("val", 6), ("test", 7)):
        (image,) = load_caption_images(root, split)
        assert (image.image_id, image.references) == (number, (f"one {number}", f"two {number}"))
