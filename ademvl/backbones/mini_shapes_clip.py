"""The mini CLIP of `many_shapes`, and how it is trained.

It sees fresh scenes only, drawn by the generator of the data set. Pictures are contrasted with
captions at the end of the tower and at [cls] of the block before the last, which methods read; the
grid tokens of that block that an object covers are contrasted with phrases about it, most of them
with its place. Captions of whole pictures alone leave little of a place in grid tokens.

As on the web, a caption names what catches the eye: the large object. A CLIP of millions of
pictures learns to forget the rest in [cls]; a small one is told to by keeping [cls] where all else
in the picture is drawn anew. Small things are then in the grid tokens alone.
"""

import logging
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.functional import normalize as unit_length

from ademvl.backbones.mini_clip import rate_at, tower_optimizer, update
from ademvl.backbones.mini_clip_data import NORMALIZATIONS, WordTokenizer, normalize
from ademvl.backbones.mini_clip_model import (
    MiniClipSettings,
    build_model,
    open_clip_config,
    penultimate,
    save_mini_clip,
    write_recipe,
)
from ademvl.backbones.mini_shapes_clip_scores import evaluate_mini_shapes_clip
from ademvl.data.scene_captions import caption_words
from ademvl.data.scenes import IMAGE_SIZE, SIZES, Scene, SceneObject, draw_scene, render
from ademvl.randomness import derive_seed

SETTINGS = MiniClipSettings(context_length=32, batch_size=48, epochs=1)
NUM_SCENES = 76_800
"""Scenes of an epoch; no scene is seen twice."""
_SIZE_SHARE = 0.6
_PLACE_SHARE = 0.9
"""Of the phrases about objects that name the size, and the place."""
_KEEPING = 4.0
"""Weight of keeping [cls]."""

_log = logging.getLogger(__name__)


def train_mini_shapes_clip(
    output_dir: Path, settings: MiniClipSettings = SETTINGS, *, num_scenes: int = NUM_SCENES
) -> dict[str, object]:
    """Train, test and save the model; the recipe is written last.

    Deterministic on one machine for a given number of threads.

    Args:
        output_dir: gets config.json, model.safetensors (fp16) and RECIPE.json.
        settings: architecture and training; images have the size of those of the data set.
        num_scenes: of an epoch.

    Returns:
        What RECIPE.json holds.
    """
    start = time.monotonic()
    config = open_clip_config(settings, caption_words())
    model = build_model(config, seed=derive_seed(settings.seed, "mini_shapes_clip", "weights"))
    _train(model, settings, num_scenes)
    save_mini_clip(output_dir, model, config)
    training = {
        "command": "ademvl backbones mini-shapes",
        "train_images": num_scenes * settings.epochs,
        "duration_seconds": round(time.monotonic() - start),
    }
    metrics = evaluate_mini_shapes_clip(output_dir)
    return write_recipe(output_dir, model, settings, training, metrics)


def _train(model: open_clip.CLIP, settings: MiniClipSettings, num_scenes: int) -> None:
    tokenizer = WordTokenizer(caption_words(), context_length=settings.context_length)
    optimizer = tower_optimizer(model, settings)
    generator = random.Random(derive_seed(settings.seed, "mini_shapes_clip", "scenes"))
    steps = settings.epochs * num_scenes // settings.batch_size
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * rate_at(step / steps, settings.warmup_share)
        scenes = [draw_scene(generator) for _ in range(settings.batch_size)]
        loss = scenes_loss(model, scenes, tokenizer, generator)
        update(model, optimizer, loss)
        if step % 100 == 0:
            _log.info("mini CLIP of shapes: step %d of %d, loss %.4f", step, steps, loss.item())
    model.eval()


def scenes_loss(
    model: open_clip.CLIP,
    scenes: Sequence[Scene],
    tokenizer: WordTokenizer,
    generator: random.Random,
) -> Tensor:
    """Contrast pictures with captions and parts of pictures with phrases; keep [cls]."""
    items = [item for scene in scenes for item in scene.objects]
    captions = [_draw_phrase(scene.main, generator, place_share=0.0) for scene in scenes]
    phrases = [_draw_phrase(item, generator) for item in items]
    text = model.encode_text(tokenizer([*captions, *phrases]), normalize=True)
    pixels = normalize(draw_pixels(scenes), generator.choice(list(NORMALIZATIONS)))
    final, cls, grid = penultimate(model, pixels)
    scale, projection = model.logit_scale.exp(), model.visual.proj
    told = torch.tensor([[_fits(scene.main, caption) for caption in captions] for scene in scenes])
    whole = [
        _contrast(scale * unit_length(image, dim=1) @ text[: len(scenes)].T, told)
        for image in (final, cls @ projection)
    ]
    owners = [place for place, scene in enumerate(scenes) for _ in scene.objects]
    patches = torch.stack([covered_patches(item, model.visual.grid_size[0]) for item in items])
    parts = torch.einsum("og,ogc->oc", patches, grid[owners]) @ projection  # (objects, embed_dim)
    fits = torch.tensor([[_fits(item, phrase) for phrase in phrases] for item in items])
    logits = scale * unit_length(parts, dim=1) @ text[len(scenes) :].T
    change = _change_of_cls(model, scenes, cls, generator)
    return torch.stack(whole).mean() + _contrast(logits, fits) + _KEEPING * change


def _change_of_cls(
    model: open_clip.CLIP, scenes: Sequence[Scene], cls: Tensor, generator: random.Random
) -> Tensor:
    """Return how far [cls] moves when all but the large object is drawn anew, over its variance.

    Half of the scenes are enough.
    """
    anew = [_redraw_around(scene, generator) for scene in scenes[: len(scenes) // 2]]
    other = penultimate(model, normalize(draw_pixels(anew), "imagenet"))[1]
    moved = (cls[: len(anew)] - other).square().mean()
    return moved / torch.cat([cls, other]).var(dim=0).mean()


def _redraw_around(scene: Scene, generator: random.Random) -> Scene:
    """Put the large object of a scene among the small ones of another."""
    main, other = scene.main, draw_scene(generator)
    small = [item for item in other.objects if item is not other.main and item.cell != main.cell]
    objects = sorted([main, *small], key=lambda item: item.cell)
    return replace(other, objects=tuple(objects))


def draw_pixels(scenes: Sequence[Scene]) -> Tensor:
    """Draw the pictures of scenes, (B, 3, H, W) uint8."""
    pictures = np.stack([np.asarray(render(scene)) for scene in scenes])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


def covered_patches(item: SceneObject, grid: int) -> Tensor:
    """Return how much of an object's box lies in each patch, (grid * grid,), summing to 1."""
    first = torch.arange(grid) * (IMAGE_SIZE / grid)
    left, top, right, bottom = item.box

    def covered(low: float, high: float) -> Tensor:
        inside = (first + IMAGE_SIZE / grid).clamp(max=high) - first.clamp(min=low)
        return inside.clamp(min=0)

    patches = covered(top, bottom)[:, None] * covered(left, right)[None, :]
    return (patches / patches.sum()).flatten()


def _contrast(logits: Tensor, fits: Tensor) -> Tensor:
    """Cross entropy both ways, the targets spread evenly over all that fit."""
    targets = fits.float()
    rows = cross_entropy(logits, targets / targets.sum(dim=1, keepdim=True))
    columns = cross_entropy(logits.T, targets.T / targets.T.sum(dim=1, keepdim=True))
    return (rows + columns) / 2


def _draw_phrase(
    item: SceneObject, generator: random.Random, *, place_share: float = _PLACE_SHARE
) -> str:
    size = f"{item.size} " if generator.random() < _SIZE_SHARE else ""
    place = f" in the {item.place}" if generator.random() < place_share else ""
    return f"a {size}{item.name}{place}"


def _fits(item: SceneObject, phrase: str) -> bool:
    words = phrase.split()
    size, place = set(words) & set(SIZES), phrase.partition(" in the ")[2]
    return item.name in phrase and size <= {item.size} and place in ("", item.place)
