"""The mini CLIP: an open_clip model small enough to ship, and how it is trained.

It is trained on the captioned images of the train split alone. Methods read the features of its
block before the last, so the same contrastive loss is also applied there: to the [cls] token and
to the mean of the grid tokens, each through the final LayerNorm and projection.
"""

import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path

import open_clip
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.functional import normalize as unit_length

from ademvl.backbones.mini_clip_data import (
    NORMALIZATIONS,
    LabeledImages,
    WordTokenizer,
    load_captioned,
    move_shapes,
    normalize,
    shape_boxes,
    vocabulary,
)
from ademvl.backbones.mini_clip_model import (
    MiniClipSettings,
    build_model,
    encode_images,
    open_clip_config,
    save_mini_clip,
    write_recipe,
)
from ademvl.backbones.mini_clip_scores import evaluate_mini_clip
from ademvl.randomness import derive_seed
from ademvl.storage.files import sha256_file

MAX_LOGIT_SCALE = math.log(100)  # as CLIP clips it
_DEFAULTS = MiniClipSettings()

_log = logging.getLogger(__name__)


def train_mini_clip(
    output_dir: Path,
    data_dir: Path,
    settings: MiniClipSettings = _DEFAULTS,
    *,
    progress: bool = True,
) -> dict[str, object]:
    """Train, test and save a mini CLIP; the recipe is written last.

    Deterministic on one machine for a given number of threads.

    Args:
        output_dir: gets config.json, model.safetensors (fp16) and RECIPE.json.
        data_dir: converted mini data, with `coco_caption/` and `scienceqa/`.
        settings: architecture and training.
        progress: show a progress bar on a terminal.

    Returns:
        What RECIPE.json holds.
    """
    start = time.monotonic()
    train = load_captioned(data_dir, "train", image_size=settings.image_size)
    weights_seed = derive_seed(settings.seed, "mini_clip", "weights")
    config = open_clip_config(settings)
    model = build_model(config, seed=weights_seed)
    _train(model, train, settings, progress=progress)
    save_mini_clip(output_dir, model, config)
    training = {
        "command": "ademvl backbones mini",
        "train_images": len(train),
        "data_sha256": sha256_file(data_dir / "coco_caption/annotations/captions_train.json"),
        "duration_seconds": round(time.monotonic() - start),
    }
    metrics = evaluate_mini_clip(output_dir, data_dir)
    return write_recipe(output_dir, model, settings, training, metrics)


def _train(
    model: open_clip.CLIP, train: LabeledImages, settings: MiniClipSettings, *, progress: bool
) -> None:
    from tqdm import tqdm

    tokenizer = WordTokenizer(vocabulary(), context_length=settings.context_length)
    texts = [tokenizer(captions) for captions in train.captions]
    boxes = shape_boxes(train.pixels)
    optimizer = tower_optimizer(model, settings)
    steps = settings.epochs * (len(train) // settings.batch_size)
    generator = torch.Generator().manual_seed(derive_seed(settings.seed, "mini_clip", "batches"))
    batches = _batches(len(train), settings, generator)
    model.train()
    bar = tqdm(batches, total=steps, desc="mini CLIP", disable=None if progress else True)
    for step, items in enumerate(bar):
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * rate_at(step / steps, settings.warmup_share)
        name = list(NORMALIZATIONS)[int(torch.randint(2, (), generator=generator))]
        pixels = normalize(move_shapes(train.pixels[items], boxes[items], generator), name)
        ids = torch.stack([_draw(texts[item], generator) for item in items.tolist()])
        loss = contrastive_loss(model, pixels, ids, train.classes[items])
        update(model, optimizer, loss)
        if step % 100 == 0:
            _log.info("mini CLIP: step %d of %d, loss %.4f", step, steps, loss.item())
        bar.set_postfix(loss=f"{loss.item():.3f}")
    model.eval()


def contrastive_loss(model: open_clip.CLIP, pixels: Tensor, ids: Tensor, classes: Tensor) -> Tensor:
    """Contrast images with captions at three places of the tower, averaged.

    All captions of an image's class are right for it, so the targets are spread evenly over the
    items of the batch that share the class.

    Args:
        model: in training mode.
        pixels: (B, 3, H, W), normalised.
        ids: (B, context_length), one caption for each image.
        classes: (B,).
    """
    same = (classes[:, None] == classes[None, :]).float()
    targets = same / same.sum(dim=1, keepdim=True)  # (B, B)
    text = model.encode_text(ids, normalize=True)  # (B, embed_dim)
    losses = []
    for place, image in encode_images(model, pixels).items():
        projected = image if place == "final" else image @ model.visual.proj  # (B, embed_dim)
        logits = model.logit_scale.exp() * unit_length(projected, dim=1) @ text.T  # (B, B)
        losses += [cross_entropy(logits, targets), cross_entropy(logits.T, targets)]
    return torch.stack(losses).mean()


def tower_optimizer(model: nn.Module, settings: MiniClipSettings) -> torch.optim.Optimizer:
    """Return AdamW, with weight decay of matrices alone."""
    decayed = [weight for weight in model.parameters() if weight.ndim >= 2]
    others = [weight for weight in model.parameters() if weight.ndim < 2]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, 0.98), eps=1e-6)


def update(model: open_clip.CLIP, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take a step of AdamW against a loss, gradients and temperature clipped as CLIP's are."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    with torch.no_grad():
        model.logit_scale.clamp_(max=MAX_LOGIT_SCALE)


def rate_at(done: float, warmup: float) -> float:
    """Return the learning rate, as a share of its peak, after a share of the steps."""
    if done < warmup:
        return done / warmup
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))


def _batches(
    num_items: int, settings: MiniClipSettings, generator: torch.Generator
) -> Iterator[Tensor]:
    for _ in range(settings.epochs):
        order = torch.randperm(num_items, generator=generator)
        for start in range(0, num_items - settings.batch_size + 1, settings.batch_size):
            yield order[start : start + settings.batch_size]


def _draw(rows: Tensor, generator: torch.Generator) -> Tensor:
    return rows[int(torch.randint(len(rows), (), generator=generator))]
