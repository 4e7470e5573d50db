"""How much of a scene linear classifiers find in the features of a mini CLIP."""

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ademvl.backbones.mini_clip_data import normalize
from ademvl.backbones.mini_clip_model import load_mini_clip, penultimate
from ademvl.backbones.mini_clip_scores import accuracy_of, fit_probe
from ademvl.data.scenes import (
    COLORS,
    IMAGE_SIZE,
    NUM_OBJECTS,
    PLACES,
    SHAPES,
    SIZES,
    Scene,
    draw_scene,
)
from ademvl.randomness import derive_seed

NUM_SCENES = {"fitted": 1500, "measured": 500}
_BATCH = 100


def evaluate_mini_shapes_clip(model_dir: Path) -> dict[str, object]:
    """Measure a saved model on scenes of its own.

    Returns:
        Shares that linear classifiers get right, all from the block before the last: `patch` color,
        shape, size and place of an object from the grid token at its middle; `cls` the number of
        objects and the color of the largest and of the smallest object, from [cls].
    """
    model = load_mini_clip(model_dir)
    found = {}
    for name, number in NUM_SCENES.items():
        generator = random.Random(derive_seed(0, "mini_shapes_clip", name))
        scenes = [draw_scene(generator) for _ in range(number)]
        found[name] = _inputs_and_labels(model, scenes)
    metrics: dict[str, object] = {"n": NUM_SCENES["measured"]}
    for part, (inputs, labels) in found["fitted"].items():
        test_inputs, test_labels = found["measured"][part]
        predicted = fit_probe(inputs, labels, test_inputs, num_classes=int(labels.max()) + 1)
        metrics[part] = accuracy_of(predicted, test_labels)
    return metrics


@torch.no_grad()
def _inputs_and_labels(
    model: torch.nn.Module, scenes: Sequence[Scene]
) -> dict[str, tuple[Tensor, Tensor]]:
    from ademvl.backbones.mini_shapes_clip import draw_pixels

    outputs = [
        penultimate(model, normalize(pixels, "imagenet"))
        for pixels in torch.split(draw_pixels(scenes), _BATCH)
    ]
    cls, grid = (torch.cat([output[place] for output in outputs]) for place in (1, 2))
    side = int(grid.shape[1] ** 0.5)
    patch = IMAGE_SIZE / side
    objects = [(place, item) for place, scene in enumerate(scenes) for item in scene.objects]
    middles = [int(i.center[1] // patch) * side + int(i.center[0] // patch) for _, i in objects]
    tokens = grid[[place for place, _ in objects], middles]  # (objects, width)
    cells = sorted(PLACES)
    labels = {
        "patch color": [COLORS.index(item.color) for _, item in objects],
        "patch shape": [SHAPES.index(item.shape) for _, item in objects],
        "patch size": [SIZES.index(item.size) for _, item in objects],
        "patch place": [cells.index(item.cell) for _, item in objects],
    }
    found = {name: (tokens, torch.tensor(values)) for name, values in labels.items()}
    numbers = [NUM_OBJECTS.index(len(scene.objects)) for scene in scenes]
    found["cls number"] = cls, torch.tensor(numbers)
    for name, choose in (("largest", max), ("smallest", min)):
        colors = [
            COLORS.index(choose(scene.objects, key=lambda item: item.radius).color)
            for scene in scenes
        ]
        found[f"cls color of the {name}"] = cls, torch.tensor(colors)
    return found
