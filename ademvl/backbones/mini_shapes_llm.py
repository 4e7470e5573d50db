"""The two mini language models of `many_shapes`: one knows text alone, one has met image slots.

A model that has learned to read noisy vectors behind "Image: " favours methods that put vectors
there, so a comparison of methods shows both. They differ in `slot_share` alone. The first is like
released language models.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

from ademvl.backbones.mini_llm import MiniLlmSettings, train_mini_llm
from ademvl.backbones.mini_shapes_text import ManyShapes
from ademvl.config.dataset import DatasetSettings
from ademvl.data.many_shapes import draw_many_shapes

WITH_SLOTS = MiniLlmSettings(
    vocab_size=640,
    batch_size=48,
    lr=1e-3,
    max_drill_steps=800,
    steps=2400,
    accuracy_to_ramp=0.75,
    slot_noise=1.5,
)
TEXT_ALONE = replace(WITH_SLOTS, slot_share=0.0)
MEASURED = DatasetSettings(
    source="many_shapes",
    seed=1_000_000,
    train_questions=10,
    val_questions=10,
    test_questions=1500,
    caption_train_images=1,
    caption_val_images=1,
    caption_test_images=1,
)
"""Whose test questions the recipes tell the accuracy on: of other scenes than a study's."""


def train_mini_shapes_llm(output_dir: Path, settings: MiniLlmSettings) -> dict[str, object]:
    """Train one of the models, and write it; see `train_mini_llm`."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "many_shapes"
        draw_many_shapes(data, MEASURED)
        return train_mini_llm(
            output_dir,
            data / "scienceqa",
            settings,
            topic=ManyShapes(),
            command="ademvl backbones mini-shapes",
        )
