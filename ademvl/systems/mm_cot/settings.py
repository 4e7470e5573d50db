"""Settings of MM-CoT (arXiv 2302.00923), which trains all of T5 in two stages."""

from typing import Literal

from ademvl.config.method import Kind, MethodSettings, TowerStates
from ademvl.config.setting import setting, settings_class


@settings_class
class MmCotSettings(MethodSettings):
    """T5 with gated fusion of image features: one writes a rationale, another one the answer.

    Both start from the T5 that `backbones.llm` names, and all of it is trained, in fp32.

    Attributes:
        name: of the system.
        rationale_format: texts of the first stage; QCM-E in the released scripts, QCM-LE in the
            paper.
        use_caption: show the image's caption in the context, where the data has one; as released.
        max_source_tokens: that the encoder reads; 512 as released. The end is cut off.
        max_rationale_tokens: that the first stage writes; 512 as released.
        max_answer_tokens: that the second stage writes; 64 as released.
        score_padding: learn the padding of targets, which fills them to their largest length, as
            the released code does.
        no_answer: of a text that does not state exactly one answer: `wrong`, or, as released,
            `random`, a letter out of five whatever choices there are. How many are so is told.
    """

    name: Literal["mm_cot"] = setting(default="mm_cot", changes="results")
    rationale_format: Literal["QCM-E", "QCM-LE"] = setting(changes="results", default="QCM-E")
    use_caption: bool = setting(changes="results", default=True)
    max_source_tokens: int = setting(changes="results", default=512, ge=2, le=100_000)
    max_rationale_tokens: int = setting(changes="results", default=512, ge=2, le=100_000)
    max_answer_tokens: int = setting(changes="results", default=64, ge=2, le=100_000)
    score_padding: bool = setting(changes="training", default=False)
    no_answer: Literal["wrong", "random"] = setting(changes="evaluation", default="wrong")

    @property
    def only_task(self) -> str:
        """Questions with choices and explanations."""
        return "scienceqa"

    @property
    def kind(self) -> Kind:
        """A system that is trained here whole."""
        return "trained_whole"

    @property
    def tower_states(self) -> TowerStates:
        """All tokens behind the tower's last norm, as its features are in the released code."""
        return TowerStates(blocks=(-1,))
