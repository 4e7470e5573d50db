"""COCO captions: one generated caption an image, scored against its references."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ademvl.config.dataset import DatasetSettings
from ademvl.config.run import RunSettings
from ademvl.data.choices import TextRule
from ademvl.data.examples import Example
from ademvl.errors import DataError, list_findings
from ademvl.statistics.intervals import Estimate, Floats
from ademvl.tasks.base import FileAnswers, Questions, RightAnswers, Row, ShownImage, Task
from ademvl.tasks.coco_caption.examples import (
    caption_answer,
    caption_evaluation_examples,
    caption_training_examples,
)
from ademvl.tasks.coco_caption.facts import FACTS
from ademvl.tasks.coco_caption.metrics.files import read_results
from ademvl.tasks.coco_caption.metrics.scores import (
    FIXED_FREQUENCIES,
    LIMITS,
    METRICS,
    caption_item_sums,
    corpus_scores,
    metric_estimates,
    score_captions,
)
from ademvl.tasks.coco_caption.prompts import CAPTION_PROMPT
from ademvl.tasks.coco_caption.reader import (
    KARPATHY_IMAGES,
    CaptionImage,
    extract_caption,
    karpathy_file,
    load_caption_images,
    load_coco_references,
    parse_evaluation_rows,
)
from ademvl.tasks.lmms_samples import REMEDY
from ademvl.tasks.texts import Texts, rows_of

_SCORED_CAPTION = 60  # 30 words at most, and "a picture of"
CAPTIONS_PER_IMAGE = 5
KARPATHY_CAPTIONS = 566_747
"""Captions of the Karpathy train split: coco_karpathy_train.json of LAVIS."""
OFFICIAL_COCO = {"train": (414_113, 82_783), "val": (202_654, 40_504)}
"""Captions and images of COCO 2014 (arXiv 1504.00325)."""


class CaptionQuestions(Questions):
    """Images of one split."""

    facts = FACTS
    is_cheap = False

    def __init__(
        self, root: Path, split: str, captioned: Sequence[CaptionImage], findings: Sequence[str]
    ) -> None:
        self._root = root
        self._split = split
        self.captioned = captioned
        self.findings = findings

    @property
    def item_ids(self) -> list[str]:
        """Ids of the images."""
        return [str(image.image_id) for image in self.captioned]

    def examples(self, run: RunSettings) -> list[Example]:
        """Render the same prompt for each image."""
        return caption_evaluation_examples(self.captioned, run.images, run.prompts)

    @property
    def texts(self) -> Sequence[object]:
        """Ids: nothing is asked in words that differs."""
        return [image.image_id for image in self.captioned]

    @property
    def answers(self) -> Sequence[object]:
        """References."""
        return [image.references for image in self.captioned]

    @property
    def images(self) -> Sequence[Path]:
        """Pictures."""
        return [image.image for image in self.captioned]

    def row(self, item_id: str, text: str) -> Row:
        """Return the text with the caption that stands in it."""
        return {"id": item_id, "text": text, "caption": extract_caption(text)}

    def score(self, rows: Sequence[Row]) -> dict[str, object]:
        """Score against the references, and one reference against the others."""
        captions = {
            image.image_id: str(row["caption"])
            for image, row in zip(self.captioned, rows, strict=True)
        }
        references = {image.image_id: image.references for image in self.captioned}
        folder = karpathy_file(self._root, self._split).parent
        is_linked = self._root.is_symlink() or folder.is_symlink()  # to somebody's own files
        beside = None if is_linked else folder
        return score_captions(references, captions, with_ceiling=True, beside=beside).to_json()

    def shown(self) -> Sequence[ShownImage]:
        """Return the images with their references."""
        return [
            ShownImage(item_id=str(image.image_id), image=image.image, references=image.references)
            for image in self.captioned
        ]


class CaptionCorpus:
    """See `CorpusScores`; items are images in ascending order of their ids."""

    names = METRICS
    limits = LIMITS

    def item_sums(
        self, answers: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]
    ) -> list[Floats]:
        """Return what the metrics sum over images."""
        references = {int(image_id): tuple(texts) for image_id, texts in answers.items()}
        captions = [{int(i): str(found[i]) for i in answers} for found in predictions]
        return caption_item_sums(references, captions)

    def totals(self, sums: Floats, *, n: int) -> Floats:
        """Return the metrics."""
        return corpus_scores(sums, n=n)

    def estimates(self, values: Floats, *, seed: int) -> dict[str, Estimate]:
        """Return the metrics with their intervals."""
        return metric_estimates(values, seed=seed)

    def held_fixed(self, name: str) -> str:
        """CIDEr's document frequencies are those of all references."""
        return FIXED_FREQUENCIES if name == "CIDEr" else ""


class CaptionTask(Task):
    """See `Task`."""

    facts = FACTS
    value_key, value_type, value_words = "caption", str, "caption"
    corpus = CaptionCorpus()
    every_prompt = CAPTION_PROMPT

    def training_examples(self, run: RunSettings) -> list[Example]:
        """Render each caption with its picture."""
        return caption_training_examples(Path(run.data_dir), run.images, run.prompts)

    def questions(self, root: Path, split: str, *, look_at_images: bool = True) -> CaptionQuestions:
        """Read a split; where images are not looked at, bad rows are told by `findings`."""
        if look_at_images:
            return CaptionQuestions(root, split, load_caption_images(root, split), ())
        images, findings = parse_evaluation_rows(root, split)
        return CaptionQuestions(root, split, images, findings)

    def training_texts(self, run: RunSettings) -> Texts:
        """Render those rows alone that are chosen: there are 566,747."""
        rows = rows_of(karpathy_file(Path(run.data_dir), "train"))
        return Texts.of_rows(
            rows,
            partial(_planned, run),
            length=lambda row: len(row["caption"]),
            images=len({row.get("image") for row in rows} - {None}),
        )

    def evaluation_texts(self, run: RunSettings) -> Texts:
        """Return the one prompt that there is."""
        rows = rows_of(karpathy_file(Path(run.data_dir), run.evaluation.split))
        prompts = [Example("", CAPTION_PROMPT, None, Path("image"))]
        return Texts(len(rows), len(rows), prompts, prompts)

    def published_sizes(
        self, run: RunSettings, dataset: DatasetSettings, *, is_training: bool
    ) -> tuple[int, int, int]:
        """Return those of Karpathy's splits or COCO's own, or of a made-up data set."""
        if dataset.is_mini:
            name = "train" if is_training else run.evaluation.split
            images = int(getattr(dataset, f"caption_{name}_images"))
            items = images * CAPTIONS_PER_IMAGE if is_training else images
            return items, items, images
        if not is_training:
            images = KARPATHY_IMAGES[run.evaluation.split]
            return images, images, images
        if dataset.caption_splits == "official":
            captions, images = OFFICIAL_COCO["train"]
            return captions, captions, images
        return KARPATHY_CAPTIONS, KARPATHY_CAPTIONS, KARPATHY_IMAGES["train"]

    def most_scored(self, run: RunSettings) -> int | None:
        """Captions are cut off."""
        return _SCORED_CAPTION

    def right_answers(self, root: Path, split: str) -> RightAnswers:
        """Return the references by image."""
        references = load_coco_references(karpathy_file(root, f"{split}_gt"))
        by_id = {str(image_id): list(texts) for image_id, texts in references.items()}
        return RightAnswers(by_id=by_id, contents=by_id)

    def is_data(self, root: Path) -> bool:
        """Tell it by the folder of splits."""
        return karpathy_file(root, "test").parent.is_dir()

    def answers_in_file(
        self, path: Path, root: Path, split: str, *, text_rule: TextRule = "free-text"
    ) -> FileAnswers:
        """Read it as `ademvl score captions` does."""
        captions = read_results(path).captions
        return FileAnswers(values={str(image_id): text for image_id, text in captions.items()})

    def row_of(self, item_id: str, value: Any) -> Row:
        """Return the row of a caption."""
        return {"id": item_id, "text": value, "caption": value}

    def rows_in_file(self, run: RunSettings, *, text_rule: TextRule = "free-text") -> list[Row]:
        """Read those of the split: results of a whole year's images hold them, too."""
        known = {
            image.image_id
            for image in load_caption_images(Path(run.data_dir), run.evaluation.split)
        }
        rows = super().rows_in_file(run, text_rule=text_rule)
        return [row for row in rows if int(str(row["id"])) in known]

    def in_other_format(self, run: RunSettings, path: Path, rows: Sequence[Row]) -> str:
        """Return the list that the COCO evaluation server takes."""
        ids = {str(row["id"]) for row in rows}
        if other := sorted(item for item in ids if not (item.isascii() and item.isdecimal())):
            findings = [f"item {item!r:.80}: is no image id" for item in other]
            raise DataError(list_findings(f"{path}: predictions cannot be read", findings, REMEDY))
        return json.dumps(
            [{"image_id": int(str(row["id"])), "caption": row["caption"]} for row in rows]
        )


def _planned(run: RunSettings, row: Any) -> Example:
    answer = caption_answer(str(row["caption"]), run.prompts)
    return Example("", CAPTION_PROMPT, answer, Path(row["image"]))


TASK = CaptionTask()
