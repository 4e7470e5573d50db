"""Settings of BLIP-2 (arXiv 2301.12597)."""

from typing import Literal

from ademvl.config.setting import setting, settings_class
from ademvl.systems.settings import PretrainedSettings, check_template


@settings_class
class Blip2Settings(PretrainedSettings):
    """BLIP-2 with a decoder such as OPT, through `Blip2ForConditionalGeneration`.

    Rows without an image are shown an empty one.

    Attributes:
        name: of the system.
        template: of a question, with {prompt} for it; "Question: {} Answer:" in the paper, where
            the prompt has its own "Question:" here.
        caption_prompt: what asks for a caption; "a photo of" in the paper, table 5.
    """

    name: Literal["blip2"] = setting(default="blip2", changes="results")
    template: str = setting(changes="evaluation", default="{prompt} Answer:", check=check_template)
    caption_prompt: str = setting(changes="evaluation", default="a photo of")
