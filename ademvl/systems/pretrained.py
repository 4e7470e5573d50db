"""A whole system of transformers, asked as a run's model is: the next token's logits, or a text.

Design: what differs between systems is which class loads them, what begins and ends a text, where
the image stands in it, and what a forward pass and a generation are given; each has a class for
that. Everything else (prompts, rows, batches, scoring, tables) is that of all runs.

Rows of a batch have no influence on each other: padding is on the left, masked, and takes no
position; a system that counts positions through padding generates rows of one length together.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ademvl.config.run import RunSettings
from ademvl.data.collate import Batch, pad_left
from ademvl.data.examples import Example
from ademvl.data.image_files import open_rgb
from ademvl.data.rows import TokenizedExample
from ademvl.errors import SettingsError, WeightsError
from ademvl.llm.loading import load_frozen
from ademvl.llm.source import find_llm, llm_config
from ademvl.systems.settings import PretrainedSettings
from ademvl.systems.text import ImagePlaces, SystemTokenizer, load_tokenizer, tokenize_for_system
from ademvl.vision.features.source import OnlinePixels

GenerateOptions = Callable[[Sequence[str]], Mapping[str, Any]]
"""Ids of the items of a call to what `generate` of transformers takes beside its inputs."""


class SystemText(ABC):
    """The text of a run's system: no weights are read for it.

    Attributes:
        tokenizer: the system's own.

    Raises:
        WeightsError: the checkpoint is not there.
        SettingsError: it is of another system.
    """

    model_type: str
    """What config.json calls the system."""

    def __init__(self, run: RunSettings) -> None:
        if not isinstance(run.method, PretrainedSettings):
            raise TypeError(f"{run.method.name} is no pretrained system")
        self._run, self._settings = run, run.method
        self.config = llm_config(run.backbones)
        if self.config.model_type != self.model_type:
            raise SettingsError(
                f"backbones.llm: {run.backbones.llm} is a model of type {self.config.model_type}, "
                f"but method {run.method.name} needs {self.model_type}; name another checkpoint"
            )
        self.check()
        tokenizer = load_tokenizer(run)
        bos_id, eos_id = self.ends(tokenizer)
        self.tokenizer = SystemTokenizer(tokenizer, bos_id=bos_id, eos_id=eos_id)

    def check(self) -> None:
        """Refuse a checkpoint of the right type that cannot be used all the same."""
        return None

    def ends(self, tokenizer: Any) -> tuple[int, int]:
        """Return the tokens that begin a row and end an answer."""
        text = self.config.get_text_config()
        bos_id = tokenizer.bos_token_id
        return int(text.bos_token_id if bos_id is None else bos_id), int(text.eos_token_id)

    @abstractmethod
    def image_places(self) -> ImagePlaces:
        """Return where an image stands in a row."""

    def tokenize(
        self, examples: Sequence[Example], *, max_new_tokens: int
    ) -> list[TokenizedExample]:
        """Return prompts as rows; see `tokenize_for_system`."""
        return tokenize_for_system(
            self._run,
            self._settings,
            self.tokenizer,
            self.image_places(),
            examples,
            max_new_tokens=max_new_tokens,
        )


class GeneratingSystem(ABC):
    """A system that continues or answers prompts by `generate` of transformers."""

    @abstractmethod
    def generate(
        self, batch: Batch, visual: Tensor | None, options: GenerateOptions
    ) -> list[list[int]]:
        """Return the new ids of each row.

        Args:
            batch: prompts, padded on the right.
            visual: of the rows with an image, in row order.
            options: of `generate`, by the items that are generated for.
        """

    @property
    @abstractmethod
    def generating(self) -> Any:
        """The part whose generation settings count."""


class PretrainedSystem(GeneratingSystem):
    """A loaded system in evaluation mode.

    Args:
        device: where it computes.

    Raises:
        SettingsError, WeightsError, ToolError: see `load_frozen`.
    """

    model_class: str
    """Name of its class in transformers."""
    needs_image = True
    """Whether rows without an image are shown an empty one."""

    def __init__(self, run: RunSettings, device: torch.device) -> None:
        import transformers

        on_gpu = None if device.type == "cpu" else device
        self.model: Any = load_frozen(
            getattr(transformers, self.model_class), run.backbones, device=on_gpu
        )
        self.device = device
        source = find_llm(run.backbones)
        try:
            self._processor: Any = transformers.AutoImageProcessor.from_pretrained(source.name)
        except (OSError, ValueError, KeyError) as error:
            raise WeightsError(
                f"backbones.llm: transformers finds no image processor in {source.name}: {error}"
            ) from error

    def eval(self) -> "PretrainedSystem":
        """Return the system, which is never in another mode."""
        return self

    def open_images(self) -> OnlinePixels:
        """Return a source of pixels, as the system's own processor makes them of 8-bit images."""
        return OnlinePixels(self._pixels, lambda pixels: pixels)

    def _pixels(self, path: Path) -> Tensor:
        made = self._processor(images=[open_rgb(path)], return_tensors="pt")
        pixels: Tensor = made["pixel_values"][0]
        return pixels

    @torch.inference_mode()
    def next_token_logits(self, batch: Batch, visual: Tensor | None) -> Tensor:
        """Predict the token behind each row's last one, (B, V).

        Args:
            batch: prompts, padded on the right.
            visual: pixels of the rows with an image, in row order, (B_img, 3, H, W).
        """
        rows = pad_left(batch)
        logits: Tensor = self.model(
            input_ids=rows.input_ids.to(self.device),
            attention_mask=rows.mask.to(self.device),
            logits_to_keep=1,
            **self._images(batch, visual),
            **self._positions(rows.position_ids),
        ).logits
        return logits[:, -1]

    def generate(
        self, batch: Batch, visual: Tensor | None, options: GenerateOptions
    ) -> list[list[int]]:
        """Continue each prompt as `generate` of transformers does; return the new ids of each row.

        Args:
            batch: prompts, padded on the right.
            visual: as for `next_token_logits`.
            options: of `generate`, by the items that are generated for.
        """
        rows = pad_left(batch)
        found = self.model.generate(
            input_ids=rows.input_ids.to(self.device),
            attention_mask=rows.mask.to(self.device),
            **self._images(batch, visual),
            **options(batch.item_ids),
        )
        new: list[list[int]] = found[:, rows.input_ids.shape[1] :].tolist()
        return new

    @property
    def generating(self) -> Any:
        """The part whose generation settings count."""
        return self.model

    def _positions(self, position_ids: Tensor) -> dict[str, Tensor]:
        return {"position_ids": position_ids.to(self.device)}

    def _images(self, batch: Batch, visual: Tensor | None) -> dict[str, Tensor]:
        """Return what a call is given of the images, in the precision of the weights."""
        dtype = self.model.dtype
        if not self.needs_image:
            return {} if visual is None else {"pixel_values": visual.to(self.device, dtype)}
        size = self.model.config.vision_config.image_size
        pixels = torch.zeros(len(batch.item_ids), 3, size, size, device=self.device, dtype=dtype)
        if visual is not None:
            pixels[batch.has_image.to(self.device)] = visual.to(self.device, dtype)
        return {"pixel_values": pixels}
