"""LLaVA: an image's projected patches stand in the text of a decoder."""

from ademvl.systems.llava.settings import LlavaSettings
from ademvl.systems.pretrained import PretrainedSystem, SystemText
from ademvl.systems.registry import implements
from ademvl.systems.text import ImagePlaces


class LlavaText(SystemText):
    """Rows with an image have a place for each patch, where the template says `<image>`."""

    model_type = "llava"

    def image_places(self) -> ImagePlaces:
        """Return as many places as the tower gives states that are kept."""
        vision = self.config.vision_config
        patches = (vision.image_size // vision.patch_size) ** 2
        has_cls = self.config.vision_feature_select_strategy == "full"
        return ImagePlaces(self.config.image_token_id, patches + has_cls)


@implements(LlavaSettings, text=LlavaText)
class LlavaSystem(PretrainedSystem):
    """LLaVA of transformers; rows without an image are text alone."""

    model_class = "LlavaForConditionalGeneration"
    needs_image = False
