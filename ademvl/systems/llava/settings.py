"""Settings of LLaVA (arXiv 2304.08485, 2310.03744)."""

from typing import Literal

from ademvl.config.setting import setting, settings_class
from ademvl.systems.settings import PretrainedSettings, check_template


@settings_class
class LlavaSettings(PretrainedSettings):
    r"""LLaVA through `LlavaForConditionalGeneration`.

    Attributes:
        name: of the system.
        template: of a question, with {prompt} for it; <image> and what follows it in its line are
            left out of rows without an image. The default is that of LLaVA-1.5 (its model card).
        caption_prompt: what asks for a caption, in the form of a template.
    """

    name: Literal["llava"] = setting(default="llava", changes="results")
    template: str = setting(
        changes="evaluation",
        default="USER: <image>\n{prompt} ASSISTANT:",
        check=check_template,
    )
    caption_prompt: str = setting(
        changes="evaluation",
        default="USER: <image>\nDescribe this image in one short sentence. ASSISTANT:",
    )
