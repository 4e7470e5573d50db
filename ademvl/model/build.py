"""Builds what answers in a run: frozen models with a new method attached, or a whole system."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import torch

from ademvl.config.run import RunSettings
from ademvl.llm.loading import load_llm
from ademvl.machine.devices import compute_device
from ademvl.model.vision_language import VisionLanguageModel
from ademvl.randomness import derive_seed
from ademvl.systems.mm_cot.settings import MmCotSettings
from ademvl.systems.pretrained import PretrainedSystem
from ademvl.systems.trained import TrainableModel
from ademvl.vision.features.source import VisualSource, open_visual_source
from ademvl.vision.tower import load_tower, tower_shape

Answering: TypeAlias = TrainableModel | PretrainedSystem
"""What is asked in an evaluation."""
Scoring: TypeAlias = VisionLanguageModel | PretrainedSystem
"""Those of it that give the logits of a next token; MM-CoT writes its answers."""


def build_model(run: RunSettings, *, device: torch.device | None = None) -> VisionLanguageModel:
    """Load a run's frozen models, and attach a newly initialised method.

    Args:
        device: of all parts; None for the one that `ademvl.machine.devices` chooses.

    Raises:
        SettingsError: the settings do not fit the models.
        WeightsError: a frozen model is missing or damaged.
    """
    device = device or compute_device(run.backbones)
    is_online = run.features.mode == "online"
    empty_picture = None
    if run.method.sees_empty_picture and not is_online:
        empty_picture = load_tower(run.backbones).encode_empty(run.method.tower_states)
    model = VisionLanguageModel(
        load_llm(run.backbones, device=None if device.type == "cpu" else device),
        run.method,
        load_tower(run.backbones).to(device) if is_online else None,
        tower_shape=tower_shape(run.backbones),
        empty_picture=empty_picture,
    )
    model.move_adapter(device)
    model.initialize(derive_seed(run.seed, "adapter"))
    return model


def build_trainable(run: RunSettings, *, device: torch.device | None = None) -> TrainableModel:
    """Build what a run trains, newly initialised: a method on frozen models, or a whole system.

    Raises:
        SettingsError, WeightsError: see `build_model`.
    """
    if not isinstance(run.method, MmCotSettings):
        return build_model(run, device=device)
    from transformers import T5ForConditionalGeneration

    from ademvl.llm.loading import load_frozen
    from ademvl.systems.mm_cot.system import MmCotModel

    device = device or compute_device(run.backbones)
    whole = replace(run.backbones, precision="fp32", quantization="none")  # all of it is trained
    is_online = run.features.mode == "online"
    model = MmCotModel(
        load_frozen(T5ForConditionalGeneration, whole),
        run.method,
        load_tower(run.backbones).to(device) if is_online else None,
        shape=tower_shape(run.backbones),
    )
    model.move_adapter(device)
    model.initialize(derive_seed(run.seed, "adapter"))
    return model


def open_images(
    run: RunSettings, images: Sequence[Path], model: Answering, *, progress: bool
) -> VisualSource:
    """Prepare what a model of a run is shown of images.

    Raises:
        DataError, CacheError: see `open_visual_source`.
    """
    if isinstance(model, PretrainedSystem):
        return model.open_images()
    return open_visual_source(
        run, images, tower=model.tower, device=model.device, progress=progress
    )
