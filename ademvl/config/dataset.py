"""Settings of data sets: where a data set comes from and how much of it is used."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pydantic import ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from ademvl.config.setting import REFUSED, setting, settings_class
from ademvl.config.tasks import all_sources

Damaged = Literal["stop", "leave_out"]
CaptionSplits = Literal["karpathy", "official"]

MINI_SOURCES = ("easy_vqa", "many_shapes")
"""Those that are made here, without any download."""
SOURCES = (*MINI_SOURCES, *all_sources())
if TYPE_CHECKING:
    Source: TypeAlias = str
else:
    Source = Literal[SOURCES]
_MINI_TASKS = ("scienceqa", "coco_caption")
_MINI = (
    *("train_questions", "val_questions", "test_questions", "text_only_fraction"),
    *("caption_train_images", "caption_val_images", "caption_test_images", "seed"),
)
_REAL = ("existing", "subset", "damaged")
_KEYS_OF_SOURCE: Mapping[Source, tuple[str, ...]] = {
    **dict.fromkeys(MINI_SOURCES, _MINI),
    **{name: (*_REAL, *facts.keys) for name, facts in all_sources().items()},
}
_KEYS_OF_ANY = {key for keys in _KEYS_OF_SOURCE.values() for key in keys}


def _of_others(key: str, source: Source) -> PydanticCustomError:
    owners = [name for name in SOURCES if key in _KEYS_OF_SOURCE[name]]
    text = f"only with source {' or '.join(owners)}, not {source}"
    return PydanticCustomError(REFUSED, "{text}", {"text": text})


@settings_class
class DatasetSettings:
    """A data set; which keys it may have depends on its source.

    Attributes:
        source: `easy_vqa` is made from the Python package of that name, one object an image, and
            `many_shapes` is drawn from the seed, two to five objects an image, both in the layouts
            of ScienceQA and COCO captions; the others are the real data sets, laid out as they are.
        existing: folder with a copy of the data set, used in place; its layout is found out. What
            it lacks is taken from what was downloaded. (not easy_vqa, many_shapes)
        subset: the data is a part of the data set on purpose, so its sizes are not compared with
            the published ones. (not easy_vqa, many_shapes)
        take: questions of each split that are used, such as {train: 400, test: 200}, chosen once
            by a fixed seed; a split that is not named stays whole. (scienceqa only)
        damaged: `stop` where any item is damaged; `leave_out` lists damaged items of the train
            split in `quarantine.json` and trains without them. Test items are never left out.
            (not easy_vqa, many_shapes)
        caption_splits: `karpathy`, as published results use; `official` takes COCO's own train and
            val images and has no test split. (coco_caption only)
        coco: folder with COCO's images, which instructions (train2014) and A-OKVQA (train and val)
            are about; empty takes those of `existing`, else of a copy that a coco_caption data set
            of the same study names, else what was downloaded. (lavin_instruct and aokvqa only)
        train_questions: questions of the train split. (easy_vqa and many_shapes only, as all below)
        val_questions: questions of the val split; its images are never trained on.
        test_questions: questions of the test split; with easy_vqa from the package's own.
        text_only_fraction: part of the questions that come without image, answered by their hint.
        caption_train_images: captioned images of the train split.
        caption_val_images: captioned images of the val split.
        caption_test_images: captioned images of the test split.
        seed: of the choice of questions, options and captions; with many_shapes of all.
    """

    source: Source = setting(changes="results", default="easy_vqa")
    existing: str = setting(changes="results", default="", by_content=True)
    subset: bool = setting(changes="nothing", default=False)
    take: Mapping[str, int] = setting(changes="results", default_factory=dict, ge=0)
    damaged: Damaged = setting(changes="training", default="stop")
    caption_splits: CaptionSplits = setting(changes="results", default="karpathy")
    coco: str = setting(changes="results", default="", by_content=True)
    train_questions: int = setting(changes="results", default=12_000, ge=1, le=10_000_000)
    val_questions: int = setting(changes="results", default=600, ge=1, le=10_000_000)
    test_questions: int = setting(changes="results", default=1_500, ge=1, le=10_000_000)
    text_only_fraction: float = setting(changes="results", default=0.25, ge=0, lt=1)
    caption_train_images: int = setting(changes="results", default=3_600, ge=1, le=10_000_000)
    caption_val_images: int = setting(changes="results", default=200, ge=1, le=10_000_000)
    caption_test_images: int = setting(changes="results", default=300, ge=1, le=10_000_000)
    seed: int = setting(changes="results", default=0)

    @model_validator(mode="before")
    @classmethod
    def _has_keys_of_its_source(cls, raw: Any) -> Any:
        """Refuse keys that belong to other sources; what is built in code has them all."""
        source = raw.get("source", "easy_vqa") if isinstance(raw, dict) else None
        if source not in SOURCES:
            return raw
        errors = [
            InitErrorDetails(type=_of_others(key, source), loc=(key,), input=value)
            for key, value in raw.items()
            if key in _KEYS_OF_ANY and key not in _KEYS_OF_SOURCE[source]
        ]
        if errors:
            raise ValidationError.from_exception_data(cls.__name__, errors)
        return raw

    @property
    def is_mini(self) -> bool:
        """Whether it is made here, without any download."""
        return self.source in MINI_SOURCES

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that the data set can be used for, each a folder of it."""
        return _MINI_TASKS if self.is_mini else (all_sources()[self.source].gives,)

    def to_plain(self) -> dict[str, Any]:
        """Return the source and the keys that belong to it, as plain values."""
        plain = asdict(self)
        kept = {key: plain[key] for key in ("source", *_KEYS_OF_SOURCE[self.source])}
        return {key: value for key, value in kept.items() if key != "take" or value}


def share_coco(datasets: Mapping[str, DatasetSettings]) -> dict[str, DatasetSettings]:
    """Let data about COCO's images use the copy of COCO that another data set of a study names."""
    copies = [d.existing for d in datasets.values() if d.source == "coco_caption" and d.existing]
    return {
        name: replace(dataset, coco=copies[0])
        if "coco" in _KEYS_OF_SOURCE[dataset.source] and copies and not dataset.coco
        else dataset
        for name, dataset in datasets.items()
    }
