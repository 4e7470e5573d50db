"""Settings of the report: which items it shows from the inside."""

from ademvl.config.setting import setting, settings_class


@settings_class
class ReportSettings:
    """What the report shows; no score depends on it.

    Attributes:
        fusion_map_items: test images drawn at random whose fusion maps are shown: which
            patches each word kept.
        fusion_map_seed: of that draw; another one shows other images.
        fusion_map_questions: ids of ScienceQA questions with an image, drawn beside those.
        fusion_map_images: ids of COCO images, drawn beside those with their generated caption.
    """

    fusion_map_items: int = setting(changes="nothing", default=6, ge=0, le=10_000)
    fusion_map_seed: int = setting(changes="nothing", default=0)
    fusion_map_questions: tuple[str, ...] = setting(changes="nothing", default=())
    fusion_map_images: tuple[int, ...] = setting(changes="nothing", default=())
