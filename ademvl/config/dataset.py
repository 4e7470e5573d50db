"""Settings of data sets: where a data set comes from and how much of it is used."""

from dataclasses import dataclass
from typing import Literal

from ademvl.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class DatasetSettings:
    """A data set made from the easy-VQA package, in the layouts of ScienceQA and COCO captions.

    Attributes:
        source: where the data comes from.
        train_questions: questions of the train split.
        val_questions: questions of the val split; its images are never trained on.
        test_questions: questions of the test split, from the package's own test split.
        text_only_fraction: part of the questions that come without image, answered by their hint.
        caption_train_images: captioned images of the train split.
        caption_val_images: captioned images of the val split.
        caption_test_images: captioned images of the test split.
        seed: of the choice of questions, options and captions.
    """

    source: Literal["easy_vqa"] = "easy_vqa"
    train_questions: int = 12_000
    val_questions: int = 600
    test_questions: int = 1_500
    text_only_fraction: float = 0.25
    caption_train_images: int = 3_600
    caption_val_images: int = 200
    caption_test_images: int = 300
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.text_only_fraction < 1:
            raise SettingsError(
                f"text_only_fraction: {self.text_only_fraction}, expected 0 <= fraction < 1"
            )
