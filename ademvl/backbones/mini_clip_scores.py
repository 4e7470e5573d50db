"""How well a mini CLIP tells colours and shapes, by name and by what a linear classifier finds."""

from pathlib import Path

import open_clip
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.functional import normalize as unit_length

from ademvl.backbones.mini_clip_data import (
    CLASSES,
    NORMALIZATIONS,
    LabeledImages,
    WordTokenizer,
    load_captioned,
    load_test_images,
    normalize,
)
from ademvl.backbones.mini_clip_model import encode_images, load_mini_clip, load_tokenizer
from ademvl.data.mini import CAPTION_TEMPLATES

_BATCH = 200


def evaluate_mini_clip(model_dir: Path, data_dir: Path) -> dict[str, object]:
    """Measure a saved model on all test images of the data, as accuracies over the 24 classes.

    Returns:
        `n`, and for either normalisation `zero_shot` (embeddings of all caption templates
        averaged for each class), and `probe_cls` and `probe_grid`: linear classifiers on the
        [cls] token and on the mean grid token of the block before the last, fitted on the
        captioned train images.
    """
    model = load_mini_clip(model_dir)
    image_size = model.visual.image_size[0]
    train = load_captioned(data_dir, "train", image_size=image_size)
    test = load_test_images(data_dir, image_size=image_size)
    class_embeddings = embed_classes(model, load_tokenizer(model_dir))
    metrics: dict[str, object] = {"n": len(test)}
    for name in NORMALIZATIONS:
        fitted, measured = _features(model, train, name), _features(model, test, name)
        predicted = (measured["final"] @ class_embeddings.T).argmax(dim=1)
        metrics[name] = {
            "zero_shot": accuracy_of(predicted, test.classes),
            **{
                f"probe_{part}": accuracy_of(
                    fit_probe(fitted[part], train.classes, measured[part]), test.classes
                )
                for part in ("cls", "grid")
            },
        }
    return metrics


@torch.no_grad()
def embed_classes(model: open_clip.CLIP, tokenizer: WordTokenizer) -> Tensor:
    """Return the mean embedding of each class over all caption templates, (24, embed_dim)."""
    rows = []
    for color, shape in CLASSES:
        texts = [template.format(color=color, shape=shape) for template in CAPTION_TEMPLATES]
        rows.append(model.encode_text(tokenizer(texts), normalize=True).mean(dim=0))
    return unit_length(torch.stack(rows), dim=1)


@torch.no_grad()
def _features(model: open_clip.CLIP, images: LabeledImages, name: str) -> dict[str, Tensor]:
    batches = [
        encode_images(model, normalize(pixels, name))
        for pixels in torch.split(images.pixels, _BATCH)
    ]
    return {part: torch.cat([batch[part] for batch in batches]) for part in batches[0]}


def fit_probe(
    train: Tensor, classes: Tensor, test: Tensor, *, num_classes: int = len(CLASSES)
) -> Tensor:
    """Predict classes of `test` (n, width) by multinomial logistic regression on `train`."""
    mean, std = train.mean(dim=0), train.std(dim=0)
    weight = torch.zeros(train.shape[1], num_classes, requires_grad=True)
    bias = torch.zeros(num_classes, requires_grad=True)
    inputs = (train - mean) / std
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(inputs @ weight + bias, classes) + 1e-4 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return (((test - mean) / std) @ weight + bias).argmax(dim=1).detach()


def accuracy_of(predicted: Tensor, classes: Tensor) -> float:
    """Return the share of right predictions."""
    return round(float((predicted == classes).double().mean()), 4)
