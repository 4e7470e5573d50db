"""What the settings of all pretrained systems share."""

from ademvl.config.method import Kind, MethodSettings

PROMPT, IMAGE = "{prompt}", "<image>"
"""What stands in a template for a question, and for the image."""


def check_template(template: str) -> None:
    """Refuse a template of questions that does not show the question exactly once."""
    if template.count(PROMPT) != 1:
        raise ValueError(f"{template!r}, expected a text with one {PROMPT}")


class PretrainedSettings(MethodSettings):
    """A system that is evaluated as its checkpoint is; `backbones.llm` names that.

    Each system declares these fields with its own defaults.

    Attributes:
        template: of a question, with {prompt} for it.
        caption_prompt: what asks for a caption.
    """

    template: str
    caption_prompt: str

    @property
    def kind(self) -> Kind:
        """A whole system."""
        return "pretrained"
