"""Sizes of the frozen models, from files or a table: no weights, no network.

What is computed from them is in `flops.py` and `memory.py`. Formulas hold for decoders as Llama's
and for vision transformers as CLIP's; shapes of others say what they are built by, so that they can
be counted and measured without memory (`built_models.py`). Those alone need torch.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import isqrt
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from ademvl.config.downloads import META_PARAMS_FILE
from ademvl.config.mini_backbones import MINI_TOWERS
from ademvl.config.run import TRANSFORMERS_TOWER, BackboneSettings
from ademvl.errors import SettingsError
from ademvl.llm.meta_params import read_meta_params
from ademvl.llm.sizes import decoder_sizes
from ademvl.llm.source import find_llm
from ademvl.storage.files import read_json
from ademvl.vision.tower_config import is_plain, tower_config

MODELS_FILE = Path(__file__).with_name("models.yaml")
_REMEDY = "Get the model again."
_LLAMA_1_AND_2_VOCABULARY = 32_000  # Meta's params.json says -1

_BIASED_FAMILIES = frozenset({"qwen2"})  # biases of q, k, v that config.json does not mention
_LIKE_LLAMA = frozenset({"", "llama", "mistral", "qwen2"})  # whose costs the formulas know


@dataclass(frozen=True, kw_only=True)
class LlmShape:
    """Sizes of a decoder; without `config` it has gated MLPs, as Llama and Mistral have them.

    Attributes:
        width: d.
        ffn_width: f, of the three matrices of an MLP.
        layers: L.
        heads, kv_heads, head_dim: of the attention.
        vocabulary: V.
        tied: input and output embedding are one tensor.
        attention_bias: q, k and v have biases.
        source: where the sizes come from.
        config: of a decoder of another family, as JSON, by which it is built to be measured.
    """

    width: int
    ffn_width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool = False
    attention_bias: bool = False
    source: str = ""
    config: str = ""

    @property
    def query_width(self) -> int:
        """Width of all queries together, that of what the attention gives."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of all keys together."""
        return self.kv_heads * self.head_dim

    @property
    def layer_matmul_parameters(self) -> int:
        """Weights of one layer that take part in matrix products."""
        attention = self.width * (2 * self.query_width + 2 * self.kv_width)
        return attention + 3 * self.width * self.ffn_width

    @property
    def layers_parameters(self) -> int:
        """Weights of all layers that take part in matrix products: what quantisation reaches."""
        if self.config:
            from ademvl.planning.built_models import decoder_parameters  # needs torch

            return decoder_parameters(self.config).in_matrices
        return self.layers * self.layer_matmul_parameters

    @property
    def parameters(self) -> int:
        """All weights of the model."""
        if self.config:
            from ademvl.planning.built_models import decoder_parameters

            return decoder_parameters(self.config).total
        embeddings = (1 if self.tied else 2) * self.vocabulary * self.width
        norms = (2 * self.layers + 1) * self.width
        biases = self.layers * (self.query_width + 2 * self.kv_width) * self.attention_bias
        return self.layers_parameters + embeddings + norms + biases


@dataclass(frozen=True, kw_only=True)
class VisionShape:
    """Sizes of a tower; without `built_from` it is a vision transformer as CLIP's.

    Attributes:
        width: C.
        blocks: residual blocks, of which the last never runs.
        image_size: pixels of a side.
        patch_size: pixels of a patch's side.
        mlp_ratio: width of an MLP's middle over C.
        head_width: of an attention head.
        has_quick_gelu: x * sigmoid(1.702 x), which keeps twice as much as GELU for the backward
            pass.
        output_width: of the output projection; 512 in CLIP ViT-B.
        source: where the sizes come from.
        built_from: settings of another tower, by which it is built to be measured.
    """

    width: int
    blocks: int
    image_size: int
    patch_size: int
    mlp_ratio: float = 4.0
    head_width: int = 64
    has_quick_gelu: bool = True
    output_width: int = 512
    source: str = ""
    built_from: BackboneSettings | None = None

    @property
    def grid_tokens(self) -> int:
        """G, patches of an image."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def tokens(self) -> int:
        """Tokens of an image's features: [cls], or what takes its place, and the grid."""
        return 1 + self.grid_tokens

    @property
    def mlp_width(self) -> int:
        """Width of an MLP's middle."""
        return int(self.mlp_ratio * self.width)

    @property
    def block_matmul_parameters(self) -> int:
        """Weights of one block that take part in matrix products."""
        return 4 * self.width**2 + 2 * self.width * self.mlp_width

    @property
    def parameters(self) -> int:
        """All weights of the vision part, the last block included, the projection not."""
        if self.built_from is not None:
            from ademvl.planning.built_models import tower_parameters

            return tower_parameters(self.built_from)
        biases_and_norms = 9 * self.width + self.mlp_width  # qkv, out, two norms, MLP
        patches = 3 * self.patch_size**2 * self.width
        embeddings = (1 + self.tokens) * self.width + patches
        blocks = self.blocks * (self.block_matmul_parameters + biases_and_norms)
        return blocks + embeddings + 4 * self.width


def llm_shape(backbones: BackboneSettings) -> LlmShape:
    """Return the sizes of the language model that the settings name.

    Raises:
        SettingsError: the model is not there, and no table knows its sizes.
        DataError: its config.json or params.json is malformed.
    """
    source = find_llm(backbones)
    if source.gguf_file and (Path(source.name) / source.gguf_file).is_file():
        return _from_gguf(backbones)
    if source.folder and (source.folder / "config.json").is_file():
        return _from_config(source.folder / "config.json")
    if source.folder and (source.folder / META_PARAMS_FILE).is_file():
        return _from_params(source.folder / META_PARAMS_FILE)
    if downloaded := _in_hub_cache(source.name):
        return _from_config(downloaded)
    known = known_models()
    name = backbones.llm.rstrip("/").rpartition("/")[2].lower()
    if name in known:
        return known[name]
    raise SettingsError(
        f"backbones.llm: {backbones.llm} is not downloaded (no config.json or params.json there), "
        f"and its sizes are not known. Download it first, or use one of {', '.join(sorted(known))}"
    )


@cache
def known_models() -> Mapping[str, LlmShape]:
    """Read the table of known models: sizes by each of their names, lower case."""
    rows = yaml.safe_load(MODELS_FILE.read_text(encoding="utf-8"))
    known = {}
    for row in rows.values():
        names, config = row.pop("names"), row.pop("config", None)
        shape = LlmShape(**row) if config is None else _of_config(config, source=row["source"])
        known.update(dict.fromkeys(names, shape))
    return known


def _in_hub_cache(repository: str) -> Path | None:
    """Return config.json of a repository that was downloaded before, without any network."""
    if repository.count("/") != 1:
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(repository, "config.json")
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def _from_gguf(backbones: BackboneSettings) -> LlmShape:
    """Read the header of a GGUF file, for which transformers has to be imported."""
    from ademvl.llm.source import llm_config

    return _of_config(llm_config(backbones).to_dict(), source=backbones.llm)


def _from_config(path: Path) -> LlmShape:
    """Read config.json of transformers."""
    return _of_config(read_json(path, remedy=_REMEDY), source=str(path))


def _of_config(config: Mapping[str, Any], *, source: str) -> LlmShape:
    text = SimpleNamespace(**config.get("text_config", config))
    family = getattr(text, "model_type", "")
    try:
        sizes = {"ffn_width": text.intermediate_size}  # required here, see `decoder_sizes`
        return LlmShape(
            **sizes | decoder_sizes(text),
            vocabulary=text.vocab_size,
            tied=bool(getattr(text, "tie_word_embeddings", False)),
            attention_bias=bool(getattr(text, "attention_bias", False))
            or family in _BIASED_FAMILIES,
            source=source,
            config="" if family in _LIKE_LLAMA else json.dumps(vars(text), sort_keys=True),
        )
    except AttributeError as error:
        raise SettingsError(
            f"{source}: no key {error.name}; a plan needs the sizes of a decoder, as those of "
            "Llama, Mistral, Qwen, Gemma, Phi or OLMo have them"
        ) from error


def _from_params(path: Path) -> LlmShape:
    """Read params.json of Meta's releases; the width of the MLP follows from its rule.

    Source: llama/model.py of Meta's release: two thirds of 4 d, times `ffn_dim_multiplier`, rounded
    up to a multiple of `multiple_of`.
    """
    params = read_meta_params(path)
    if params.multiple_of is None:
        raise SettingsError(f"{path}: no key multiple_of. {_REMEDY}")
    ffn = int(int(8 * params.width / 3) * params.ffn_multiplier)
    return LlmShape(
        width=params.width,
        ffn_width=-(-ffn // params.multiple_of) * params.multiple_of,
        layers=params.layers,
        heads=params.heads,
        kv_heads=params.kv_heads,
        head_dim=params.head_dim,
        vocabulary=params.vocabulary or _LLAMA_1_AND_2_VOCABULARY,
        source=str(path),
    )


def vision_shape(backbones: BackboneSettings) -> VisionShape:
    """Return the sizes of the tower that the settings name.

    Those of a plain vision transformer are read off open_clip's own files; another tower is built
    without memory, which needs torch.

    Raises:
        SettingsError: open_clip knows no such tower, or it cannot be read.
        WeightsError: a tower of transformers is not there.
    """
    if backbones.tower == TRANSFORMERS_TOWER or not is_plain(tower_config(backbones.tower)):
        return _of_built(backbones)
    config, is_mini = tower_config(backbones.tower), backbones.tower in MINI_TOWERS
    vision = config["vision_cfg"]
    return VisionShape(
        width=vision["width"],
        blocks=vision["layers"],
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        mlp_ratio=vision.get("mlp_ratio", 4.0),
        head_width=vision.get("head_width", 64),
        has_quick_gelu=bool(config.get("quick_gelu", False)),
        output_width=config["embed_dim"],
        source=backbones.tower if is_mini else f"open_clip's {backbones.tower}",
    )


def _of_built(backbones: BackboneSettings) -> VisionShape:
    from ademvl.planning.built_models import built_tower

    name, weights = backbones.tower, backbones.tower_weights
    is_of_transformers = name == TRANSFORMERS_TOWER
    if is_of_transformers and not Path(weights).is_dir():
        config = _in_hub_cache(weights)
        if config is None:
            raise SettingsError(
                f"backbones.tower_weights: {weights} is not downloaded, and its sizes are not known"
            )
        weights = str(config.parent)
    built_from = BackboneSettings(
        tower=name,
        tower_weights=weights if is_of_transformers else "",
        tower_cls=backbones.tower_cls,
    )
    shape = built_tower(built_from).shape
    return VisionShape(
        width=shape.width,
        blocks=shape.num_blocks,
        image_size=shape.image_size,
        patch_size=shape.image_size // isqrt(shape.num_grid_tokens),
        output_width=shape.output_width,
        source=weights if is_of_transformers else f"open_clip's {name}",
        built_from=built_from,
    )
