"""Settings of the report: which items it shows from the inside."""

from dataclasses import dataclass

from ademvl.config.ranges import check_ranges


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """What the report shows; no score depends on it.

    Attributes:
        fusion_map_items: test images drawn at random, >= 0, whose fusion maps are shown: which
            patches each word kept.
        fusion_map_seed: of the draw.
        fusion_map_questions: ids of ScienceQA questions with an image, drawn beside those.
        fusion_map_images: ids of COCO images, drawn beside those with their generated caption.
    """

    fusion_map_items: int = 6
    fusion_map_seed: int = 0
    fusion_map_questions: tuple[str, ...] = ()
    fusion_map_images: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_ranges("report", self, {">= 0": ("fusion_map_items",)})
