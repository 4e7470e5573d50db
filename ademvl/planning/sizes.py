"""What predictions are made from: the models, how numbers are held, and the batch."""

from dataclasses import dataclass

from ademvl.config.method import MethodSettings
from ademvl.config.run import PRECISION_BYTES, Precision, Quantization
from ademvl.data.passes import image_tokens
from ademvl.planning.shapes import LlmShape, VisionShape


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """The largest batch that goes through the models at once.

    Attributes:
        rows: B, with and without an image.
        image_rows: of them, those with an image; their features or pixels count.
        width: T, tokens of the longest row.
        scored: M, positions that go through the output layer.
    """

    rows: int
    image_rows: int
    width: int
    scored: int


@dataclass(frozen=True, kw_only=True)
class Numerics:
    """How numbers are held.

    Attributes:
        precision: of the frozen language model, and of computation.
        quantization: of the matrices in its layers.
        checkpointing: a layer's activations are computed again in the backward pass.
        accumulates: gradients of several passes are added up.
        averages: trained weights are averaged over steps.
    """

    precision: Precision = "fp32"
    quantization: Quantization = "none"
    checkpointing: bool = False
    accumulates: bool = False
    averages: bool = False

    @property
    def bytes(self) -> int:
        """Bytes of an activation."""
        return PRECISION_BYTES[self.precision]


@dataclass(frozen=True)
class ModelSizes:
    """The models that are in memory.

    Attributes:
        llm, vision: of the frozen models, the tower's also where only its features are read.
        method: decides what is added, trained and kept for the backward pass.
        trained: number of trained parameters, those inside the tower included.
        online: the tower is in memory and part of every step.
    """

    llm: LlmShape
    vision: VisionShape
    method: MethodSettings
    trained: int
    online: bool

    @property
    def image_tokens(self) -> int:
        """Tokens of text that take as long as an image of a batch; 0 where features are given."""
        if not self.online:
            return 0
        return image_tokens(
            tower_tokens=self.vision.tokens,
            tower_width=self.vision.width,
            tower_blocks=self.vision.blocks,
            llm_width=self.llm.width,
            llm_layers=self.llm.layers,
        )
