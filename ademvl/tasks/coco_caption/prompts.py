"""What asks for a caption, in training and in evaluation."""

from ademvl.config.run import PromptSettings

CAPTION_PROMPT = "a picture of "
CAPTION_MAX_WORDS = 30
"""Words of a caption that training learns, as in the reference; the rest is cut off."""


def caption_cue(prompts: PromptSettings) -> str:
    """Return what asks for a caption in evaluation: the prompt of training without its last space.

    So the reference does; `caption_cue: as_trained` keeps the space.
    """
    return CAPTION_PROMPT if prompts.caption_cue == "as_trained" else CAPTION_PROMPT.rstrip()
