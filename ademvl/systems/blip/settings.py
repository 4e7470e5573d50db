"""Settings of BLIP (arXiv 2201.12086)."""

from typing import Literal

from ademvl.config.setting import setting, settings_class
from ademvl.systems.settings import PROMPT, PretrainedSettings, check_template


@settings_class
class BlipSettings(PretrainedSettings):
    """BLIP's captioner through `BlipForConditionalGeneration`.

    Rows without an image are shown an empty one. Its tokenizer knows no capitals, so ScienceQA
    needs `evaluation.answer_by: likelihood`.

    Attributes:
        name: of the system.
        template: of a question, with {prompt} for it.
        caption_prompt: what asks for a caption; "a picture of" in BLIP's training.
    """

    name: Literal["blip"] = setting(default="blip", changes="results")
    template: str = setting(changes="evaluation", default=PROMPT, check=check_template)
    caption_prompt: str = setting(changes="evaluation", default="a picture of")
