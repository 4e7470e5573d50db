"""BLIP's captioner: a decoder that attends to the image's patches."""

from typing import Any

import torch
from torch import Tensor

from ademvl.data.collate import Batch
from ademvl.systems.blip.settings import BlipSettings
from ademvl.systems.pretrained import GenerateOptions, PretrainedSystem, SystemText
from ademvl.systems.registry import implements
from ademvl.systems.text import ImagePlaces


class BlipText(SystemText):
    """Rows hold text alone, behind the decoder's own begin token, and end in [SEP]."""

    model_type = "blip"

    def ends(self, tokenizer: Any) -> tuple[int, int]:
        """Return the begin token that `generate` puts in place of [CLS], and [SEP]."""
        text = self.config.text_config
        return int(text.bos_token_id), int(text.sep_token_id)

    def image_places(self) -> ImagePlaces:
        """Return none."""
        return ImagePlaces()


@implements(BlipSettings, text=BlipText)
class BlipSystem(PretrainedSystem):
    """BLIP of transformers, which counts positions through padding."""

    model_class = "BlipForConditionalGeneration"

    @torch.inference_mode()
    def next_token_logits(self, batch: Batch, visual: Tensor | None) -> Tensor:
        """Predict the token behind each row's last one, (B, V); padding stays on the right."""
        places = torch.arange(batch.input_ids.shape[1])
        logits: Tensor = self.model(
            input_ids=batch.input_ids.to(self.device),
            attention_mask=(places < batch.lengths[:, None]).long().to(self.device),
            **self._images(batch, visual),
        ).logits
        return logits[torch.arange(len(logits)), batch.lengths - 1]

    def generate(
        self, batch: Batch, visual: Tensor | None, options: GenerateOptions
    ) -> list[list[int]]:
        """Continue each prompt, those of one length together; see `PretrainedSystem.generate`.

        transformers overwrites the first id of the tensor that it is given, and drops the last: it
        gets one of its own, with an id more.
        """
        pixels = self._images(batch, visual)["pixel_values"]
        found: dict[int, list[int]] = {}
        for length in batch.lengths.unique().tolist():
            rows = (batch.lengths == length).nonzero().flatten()
            ids = batch.input_ids[rows, :length]
            ended = torch.nn.functional.pad(ids, (0, 1), value=0).to(self.device)
            chosen = self.model.generate(
                pixels[rows.to(self.device)],
                input_ids=ended,
                attention_mask=torch.ones_like(ended),
                **options([batch.item_ids[row] for row in rows.tolist()]),
            )
            found |= dict(zip(rows.tolist(), chosen[:, length:].tolist(), strict=True))
        return [found[row] for row in range(len(batch.item_ids))]

    @property
    def generating(self) -> Any:
        """The decoder."""
        return self.model.text_decoder
