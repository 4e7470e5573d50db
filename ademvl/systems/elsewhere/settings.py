"""Settings of a system that was measured elsewhere: its answers come from a file."""

from typing import Literal

from ademvl.config.method import Kind, MethodSettings
from ademvl.config.setting import setting, settings_class


def _check_source(source: str) -> None:
    if not source.strip():
        raise ValueError("'', expected where the answers come from, such as a paper and a file")


@settings_class
class ElsewhereSettings(MethodSettings):
    """Answers that another program gave, from the file that `released_from` names.

    Attributes:
        name: of the settings.
        source: where the file comes from: who measured what, and where it was published; printed
            below the tables.
        text_rule: how texts of ScienceQA are read: `free-text` as people write answers,
            `first-capital` as the paper does.
    """

    name: Literal["elsewhere"] = setting(default="elsewhere", changes="results")
    source: str = setting(changes="nothing", check=_check_source)
    text_rule: Literal["free-text", "first-capital"] = setting(
        changes="results", default="free-text"
    )

    @property
    def kind(self) -> Kind:
        """Answers from a file."""
        return "elsewhere"
