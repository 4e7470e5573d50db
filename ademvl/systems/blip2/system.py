"""BLIP-2: the queries' outputs stand before the text of a frozen decoder."""

from typing import Any

from torch import Tensor

from ademvl.errors import SettingsError
from ademvl.systems.blip2.settings import Blip2Settings
from ademvl.systems.pretrained import PretrainedSystem, SystemText
from ademvl.systems.registry import implements
from ademvl.systems.text import ImagePlaces


class Blip2Text(SystemText):
    """All rows have a place for each query, before the begin token."""

    model_type = "blip-2"

    def check(self) -> None:
        """Refuse language models with an encoder, and checkpoints without an image token."""
        if not self.config.use_decoder_only_language_model:
            raise SettingsError(
                "backbones.llm: this BLIP-2 has a language model with an encoder, which is not "
                "supported; use one with a decoder, such as Salesforce/blip2-opt-2.7b-coco"
            )
        if self.config.image_token_id is None:
            raise SettingsError(
                "backbones.llm: config.json of this BLIP-2 has no image_token_index, so that its "
                "text has no places for an image; get a newer revision of the checkpoint"
            )

    def image_places(self) -> ImagePlaces:
        """Return a place for each query."""
        return ImagePlaces(
            self.config.image_token_id, self.config.num_query_tokens, come_first=True
        )


@implements(Blip2Settings, text=Blip2Text)
class Blip2System(PretrainedSystem):
    """BLIP-2 of transformers with a decoder."""

    model_class = "Blip2ForConditionalGeneration"

    @property
    def generating(self) -> Any:
        """The decoder."""
        return self.model.language_model

    def _positions(self, position_ids: Tensor) -> dict[str, Tensor]:
        return {}  # the decoder counts them by the mask
