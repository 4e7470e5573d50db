"""What training, states and adapter files need of a model, whatever it is.

A model owns its trained parameters in one module, `method`, whose names are those of the adapter
file.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ademvl.data.collate import Batch
from ademvl.errors import WeightsError, list_findings
from ademvl.vision.tower import VisionTower


class LabelledLogits(NamedTuple):
    """Predictions at the M scored positions of a batch, row by row.

    Attributes:
        logits: (M, V), at the position before each scored token.
        targets: (M,) int64, the scored tokens.
        rows: (M,) int64, row of the batch that each belongs to.
    """

    logits: Tensor
    targets: Tensor
    rows: Tensor


class TrainableModel(nn.Module, ABC):
    """A model with parameters that are trained.

    Attributes:
        llm: the language model; frozen parts of it are known by their fingerprint.
        tower: the frozen vision tower; None where features are given.
        method: owns everything that is trained.
        dropout_seed: together with an item's id it decides that item's dropout masks; change it
            with every epoch, for example to derive_seed(seed, "dropout", epoch).
        gradient_sum_dtype: in which gradients of several passes are added up.
        training_progress: share of the training's steps that are done.
        penalties: what the last call of `labelled_logits` adds to the loss of each row, (B,): the
            mean over the rows of an optimiser step counts. None for nothing.
    """

    llm: Any
    tower: VisionTower | None
    method: Any
    dropout_seed: int
    gradient_sum_dtype: torch.dtype = torch.float64
    training_progress: float = 0.0
    penalties: Tensor | None = None

    @abstractmethod
    def labelled_logits(self, batch: Batch, visual: Tensor | None) -> LabelledLogits:
        """Predict the scored tokens of a batch.

        Args:
            batch: padded on the right.
            visual: of the rows with an image, in row order: pixels (B_img, 3, H, W) where the model
                has a tower, else features (B_img, N, C); None without any.
        """

    @abstractmethod
    def enable_checkpointing(self) -> None:
        """Recompute layers in the backward pass instead of keeping their activations."""

    @property
    def device(self) -> torch.device:
        """Where the language model's embeddings are."""
        device: torch.device = self.llm.get_input_embeddings().weight.device
        return device

    @property
    @abstractmethod
    def image_tokens(self) -> int:
        """Tokens of text that take as long as an image of a batch; 0 where features are given."""

    def named_trainable_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Return the trained parameters by name, in a fixed order; names as in the adapter file."""
        return [(name, p) for name, p in self.method.named_parameters() if p.requires_grad]

    def move_adapter(self, device: torch.device) -> None:
        """Bring the trained parts to the device where the frozen ones are already."""
        self.method.to(device)

    def initialize(self, seed: int) -> None:
        """Draw all new parameters; each depends on `seed` and its own name only."""
        self.method.initialize(seed)

    def adapter_state_dict(self) -> dict[str, Tensor]:
        """Return copies of the method's parameters on the CPU, by name.

        Those, too, that are not trained but come from the adapter that a training started from.
        """
        return {
            name: parameter.detach().cpu().clone()
            for name, parameter in self.method.named_parameters()
        }

    @torch.no_grad()
    def load_adapter_state_dict(
        self, state: Mapping[str, Tensor], *, source: str, is_start: bool = False
    ) -> None:
        """Set all of the method's parameters; nothing is changed when something does not fit.

        Args:
            state: exactly one tensor for each parameter.
            source: where it comes from, for the error.
            is_start: for a training to start from: trained parameters that it lacks stay as they
                are.

        Raises:
            WeightsError: lists names that are missing or not known, and wrong shapes.
        """
        parameters = dict(self.method.named_parameters())
        findings = [
            f"{name}: missing"
            for name, parameter in parameters.items()
            if name not in state and not (is_start and parameter.requires_grad)
        ]
        findings += [f"{name}: not part of this model" for name in state if name not in parameters]
        findings += [
            f"{name}: shape {tuple(state[name].shape)}, expected {tuple(parameter.shape)}"
            for name, parameter in parameters.items()
            if name in state and state[name].shape != parameter.shape
        ]
        if findings:
            remedy = "Use the settings (method, backbones, features) that it was trained with."
            raise WeightsError(list_findings(f"{source}: does not fit the model", findings, remedy))
        for name, tensor in state.items():
            parameters[name].copy_(tensor)
