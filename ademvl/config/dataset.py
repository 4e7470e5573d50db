"""Settings of data sets: where a data set comes from and how much of it is used."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from ademvl.config.ranges import check_ranges
from ademvl.errors import SettingsError, list_findings

Source = Literal["easy_vqa", "scienceqa", "coco_caption", "lavin_instruct", "mme"]
Damaged = Literal["stop", "leave_out"]
CaptionSplits = Literal["karpathy", "official"]

SOURCES: tuple[Source, ...] = get_args(Source)
TASKS_OF_SOURCE: Mapping[Source, tuple[str, ...]] = {
    "easy_vqa": ("scienceqa", "coco_caption"),
    "scienceqa": ("scienceqa",),
    "coco_caption": ("coco_caption",),
    "lavin_instruct": ("instruction",),
    "mme": ("mme",),
}
"""Tasks, and so folders of the data set, that each source gives."""

_REAL = ("existing", "subset", "damaged")
_KEYS_OF_SOURCE: Mapping[Source, tuple[str, ...]] = {
    "easy_vqa": (
        *("train_questions", "val_questions", "test_questions", "text_only_fraction"),
        *("caption_train_images", "caption_val_images", "caption_test_images", "seed"),
    ),
    "scienceqa": (*_REAL, "take"),
    "coco_caption": (*_REAL, "caption_splits"),
    "lavin_instruct": (*_REAL, "coco"),
    "mme": _REAL,
}


@dataclass(frozen=True, kw_only=True)
class DatasetSettings:
    """A data set; which keys it may have depends on its source.

    Attributes:
        source: `easy_vqa` is made from the Python package of that name, in the layouts of ScienceQA
            and COCO captions; the others are the real data sets, laid out as they are.
        existing: folder with a copy of the data set, used in place; its layout is found out. What
            it lacks is taken from what was downloaded. (not easy_vqa)
        subset: the data is a part of the data set on purpose, so its sizes are not compared with
            the published ones. (not easy_vqa)
        take: questions of each split that are used, such as {train: 400, test: 200}, chosen once
            by a fixed seed; a split that is not named stays whole. (scienceqa only)
        damaged: `stop` where any item is damaged; `leave_out` lists damaged items of the train
            split in `quarantine.json` and trains without them. Test items are never left out.
            (not easy_vqa)
        caption_splits: `karpathy`, as published results use; `official` takes COCO's own train and
            val images and has no test split. (coco_caption only)
        coco: folder with COCO's images of train2014, which the instructions are about; empty takes
            those of `existing`, else of a copy that a coco_caption data set of the same study
            names, else what was downloaded. (lavin_instruct only)
        train_questions: questions of the train split. (easy_vqa only, as all below)
        val_questions: questions of the val split; its images are never trained on.
        test_questions: questions of the test split, from the package's own test split.
        text_only_fraction: part of the questions that come without image, answered by their hint.
        caption_train_images: captioned images of the train split.
        caption_val_images: captioned images of the val split.
        caption_test_images: captioned images of the test split.
        seed: of the choice of questions, options and captions.
    """

    source: Source = "easy_vqa"
    existing: str = ""
    subset: bool = False
    take: Mapping[str, int] = field(default_factory=dict)
    damaged: Damaged = "stop"
    caption_splits: CaptionSplits = "karpathy"
    coco: str = ""
    train_questions: int = 12_000
    val_questions: int = 600
    test_questions: int = 1_500
    text_only_fraction: float = 0.25
    caption_train_images: int = 3_600
    caption_val_images: int = 200
    caption_test_images: int = 300
    seed: int = 0

    def __post_init__(self) -> None:
        sizes = [key for key in vars(self) if key.endswith(("_questions", "_images"))]
        ranges = {">= 1": sizes, ">= 0 and < 1": ["text_only_fraction"]}
        check_ranges("datasets.<name>", self, ranges)
        for split, number in self.take.items():
            if number < 0:
                raise SettingsError(f"take.{split}: {number}, expected >= 0")

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that the data set can be used for."""
        return TASKS_OF_SOURCE[self.source]

    def to_plain(self) -> dict[str, Any]:
        """Return the source and the keys that belong to it, as plain values."""
        plain = asdict(self)
        kept = {key: plain[key] for key in ("source", *_KEYS_OF_SOURCE[self.source])}
        return {key: value for key, value in kept.items() if key != "take" or value}


def share_coco(datasets: Mapping[str, DatasetSettings]) -> dict[str, DatasetSettings]:
    """Let instructions use the copy of COCO that another data set of the same study names."""
    copies = [d.existing for d in datasets.values() if d.source == "coco_caption" and d.existing]
    return {
        name: replace(dataset, coco=copies[0])
        if dataset.source == "lavin_instruct" and copies and not dataset.coco
        else dataset
        for name, dataset in datasets.items()
    }


def check_sources(datasets: Mapping[str, Mapping[str, Any]], *, source: str) -> None:
    """Refuse keys that do not belong to the source of their data set.

    Args:
        datasets: raw settings by path, such as `datasets.easy_vqa`; already checked by schema.
        source: file or place they come from.

    Raises:
        SettingsError: lists all such keys with their path and what they belong to.
    """
    findings = [text for path, raw in datasets.items() for text in _foreign_keys(path, raw)]
    if findings:
        headline = f"{source}: settings that do not fit the source of their data set"
        raise SettingsError(list_findings(headline, findings, "All keys: docs/settings.md."))


def _foreign_keys(path: str, raw: Mapping[str, Any]) -> Iterator[str]:
    chosen: Source = raw.get("source", DatasetSettings.source)
    for key in raw:
        if key != "source" and key not in _KEYS_OF_SOURCE[chosen]:
            owners = [name for name in SOURCES if key in _KEYS_OF_SOURCE[name]]
            yield f"{path}.{key}: only with source {' or '.join(owners)}, not {chosen}"
