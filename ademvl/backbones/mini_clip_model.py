"""The architecture of the mini CLIP: building, loading and running it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import open_clip
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ademvl.backbones.mini_clip_data import WordTokenizer, vocabulary
from ademvl.config.mini_backbones import MINI_TOWERS
from ademvl.errors import SettingsError, WeightsError
from ademvl.storage.files import atomic_path, read_json, sha256_file, write_json

CONFIG_FILE, WEIGHTS_FILE, RECIPE_FILE = "config.json", "model.safetensors", "RECIPE.json"
MINI_CLIP_DIR = MINI_TOWERS["mini"]
_RETRAIN = "Reinstall ademvl, or train the mini backbones again."


@dataclass(frozen=True, kw_only=True)
class MiniClipSettings:
    """Architecture and training of the mini CLIP.

    Attributes:
        image_size, patch_size: pixels; the grid has (image_size / patch_size)^2 tokens.
        vision_layers, vision_width, head_width: of the image tower.
        text_layers, text_width, text_heads, context_length: of the text tower.
        embed_dim: of the common space.
        epochs: how often training goes through the captioned train images.
        batch_size: images of a step.
        lr, warmup_share, weight_decay: AdamW with linear warm-up over that share of the steps,
            then half a cosine to zero.
        seed: of weights, order and augmentation.
    """

    image_size: int = 64
    patch_size: int = 8
    vision_layers: int = 5
    vision_width: int = 128
    head_width: int = 32
    text_layers: int = 2
    text_width: int = 64
    text_heads: int = 2
    context_length: int = 16
    embed_dim: int = 64
    epochs: int = 16
    batch_size: int = 64
    lr: float = 1e-3
    warmup_share: float = 0.05
    weight_decay: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name not in ("weight_decay", "warmup_share", "seed") and value <= 0:
                raise SettingsError(f"mini_clip.{name}: {value} is not positive")


def open_clip_config(
    settings: MiniClipSettings, words: Sequence[str] | None = None
) -> dict[str, object]:
    """Return the arguments of `open_clip.CLIP`; the vocabulary is in the text tower's part.

    Args:
        words: the vocabulary; that of the mini study's captions by default.
    """
    words = vocabulary() if words is None else words
    tokenizer = WordTokenizer(words, context_length=settings.context_length)
    return {
        "embed_dim": settings.embed_dim,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": settings.image_size,
            "patch_size": settings.patch_size,
            "layers": settings.vision_layers,
            "width": settings.vision_width,
            "head_width": settings.head_width,
        },
        "text_cfg": {
            "context_length": settings.context_length,
            "vocab_size": tokenizer.vocab_size,
            "layers": settings.text_layers,
            "width": settings.text_width,
            "heads": settings.text_heads,
            "tokenizer_kwargs": {"words": list(words)},
        },
    }


def build_model(config: Mapping[str, object], *, seed: int) -> open_clip.CLIP:
    """Build a model with weights drawn from `seed`.

    open_clip draws them from torch's global generator, which is restored afterwards.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return open_clip.CLIP(**config)


def save_mini_clip(output_dir: Path, model: open_clip.CLIP, config: Mapping[str, object]) -> None:
    """Write config.json and model.safetensors (fp16); a recipe of another model goes first."""
    output_dir.mkdir(parents=True, exist_ok=True)
    (output_dir / RECIPE_FILE).unlink(missing_ok=True)
    write_json(output_dir / CONFIG_FILE, config)
    with atomic_path(output_dir / WEIGHTS_FILE) as path:
        state = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
        safetensors.torch.save_file(state, path)


def write_recipe(
    output_dir: Path,
    model: open_clip.CLIP,
    settings: MiniClipSettings,
    training: Mapping[str, object],
    metrics: Mapping[str, object],
) -> dict[str, object]:
    """Write and return RECIPE.json of saved files.

    Args:
        output_dir: as of `save_mini_clip`.
        model: that was saved.
        training: what it was trained by and on.
    """
    recipe: dict[str, object] = {
        "settings": asdict(settings),
        **training,
        "cores": torch.get_num_threads(),
        "torch": torch.__version__,
        "open_clip": open_clip.__version__,
        "parameters": {
            "vision": sum(weight.numel() for weight in model.visual.parameters()),
            "all": sum(weight.numel() for weight in model.parameters()),
        },
        "metrics": metrics,
        "sha256": {name: sha256_file(output_dir / name) for name in (CONFIG_FILE, WEIGHTS_FILE)},
    }
    write_json(output_dir / RECIPE_FILE, recipe)
    return recipe


def load_mini_clip(model_dir: Path = MINI_CLIP_DIR) -> open_clip.CLIP:
    """Load the model in fp32, in evaluation mode.

    Raises:
        WeightsError: a file is missing, damaged, or not the one that the recipe describes.
    """
    config = _read_config(model_dir)
    path = model_dir / WEIGHTS_FILE
    if not path.is_file():
        raise WeightsError(f"{path}: missing. {_RETRAIN}")
    recipe = model_dir / RECIPE_FILE
    if recipe.is_file():
        expected = read_json(recipe, remedy=_RETRAIN).get("sha256", {}).get(WEIGHTS_FILE)
        if sha256_file(path) != expected:
            raise WeightsError(f"{path}: its SHA-256 is not the one in {recipe.name}. {_RETRAIN}")
    try:
        state = safetensors.torch.load_file(path)
        model = build_model(config, seed=0)
        model.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    except (SafetensorError, RuntimeError) as error:
        raise WeightsError(f"{path}: does not fit {CONFIG_FILE} ({error}). {_RETRAIN}") from error
    return model.eval()


def load_tokenizer(model_dir: Path = MINI_CLIP_DIR) -> WordTokenizer:
    """Load the word tokenizer of the text tower."""
    text = _read_config(model_dir)["text_cfg"]
    return WordTokenizer(text["tokenizer_kwargs"]["words"], context_length=text["context_length"])


def encode_images(model: open_clip.CLIP, pixels: Tensor) -> Mapping[str, Tensor]:
    """Return `final` (B, embed_dim) and, of the block before the last, `cls` and `grid` (B, width).

    `grid` is the mean over the grid tokens; both went through the final LayerNorm.
    """
    final, cls, grid = penultimate(model, pixels)
    return {"final": final, "cls": cls, "grid": grid.mean(dim=1)}


def penultimate(model: open_clip.CLIP, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the embedding (B, embed_dim), and [cls] (B, width) and grid tokens (B, G, width).

    Tokens are of the block before the last, through the final LayerNorm.
    """
    layers = len(model.visual.transformer.resblocks)
    outputs = model.visual.forward_intermediates(
        pixels,
        indices=[layers - 2],
        normalize_intermediates=True,
        output_fmt="NLC",
        output_extra_tokens=True,
    )
    cls: Tensor = outputs["image_intermediates_prefix"][0][:, 0]
    return outputs["image_features"], cls, outputs["image_intermediates"][0]


def _read_config(model_dir: Path) -> dict:  # type: ignore[type-arg]
    path = model_dir / CONFIG_FILE
    if not path.is_file():
        raise WeightsError(f"{path}: missing. {_RETRAIN}")
    return dict(read_json(path, remedy=_RETRAIN))
