"""Builds a run's model: the frozen parts from its settings, and a new method attached to them."""

import torch

from ademvl.config.run import RunSettings
from ademvl.llm.loading import load_llm
from ademvl.machine.devices import compute_device
from ademvl.model.vision_language import VisionLanguageModel
from ademvl.randomness import derive_seed
from ademvl.vision.tower import load_tower, tower_shape


def build_model(run: RunSettings, *, device: torch.device | None = None) -> VisionLanguageModel:
    """Load a run's frozen models, and attach a newly initialised method.

    Args:
        run: its settings.
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
