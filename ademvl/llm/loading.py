"""Loading a frozen causal language model: shipped, of transformers, or in Meta's layout."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ademvl.config.run import BackboneSettings
from ademvl.errors import SettingsError, WeightsError
from ademvl.llm.meta_format import is_meta_folder, load_meta_llama

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MINI_LLM_DIR = Path(__file__).parents[1] / "backbones" / "weights" / "mini_llm"
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_SAMPLES_PER_TENSOR = 4096
# Models that change the logits behind their output layer, by the setting that says so and the
# value that changes nothing.
_LOGIT_TRANSFORMS: Mapping[str, object] = {
    "final_logit_softcapping": None,
    "logit_scale": 1,
    "logits_scaling": 1,
}


def llm_dir(backbones: BackboneSettings) -> Path | None:
    """Return the folder that the settings name, None for a repository id."""
    folder = MINI_LLM_DIR if backbones.llm == "mini" else Path(backbones.llm)
    return folder if backbones.llm == "mini" or folder.is_dir() else None


def load_llm(backbones: BackboneSettings) -> "PreTrainedModel":
    """Load the language model in the precision asked for, frozen, in evaluation mode.

    Args:
        backbones: `llm` is `mini`, a folder in the layout of transformers or of Meta's releases,
            or a repository id. Weights stored in another precision are converted.

    Raises:
        WeightsError: the model is missing, damaged or incomplete.
        SettingsError: it is no causal language model that transformers knows, or one whose logits
            are changed behind its output layer.
    """
    folder, dtype = llm_dir(backbones), DTYPES[backbones.precision]
    llm: Any
    with _without_progress_bars():
        if folder is not None and is_meta_folder(folder):
            llm = load_meta_llama(folder, dtype=dtype)
        else:
            llm = _load_pretrained(str(folder or backbones.llm), dtype)
    _refuse_logit_transforms(llm)
    frozen: PreTrainedModel = llm.eval().requires_grad_(False)
    return frozen


def _load_pretrained(source: str, dtype: torch.dtype) -> Any:
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    loaded: Any
    try:
        loaded = AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype, attn_implementation="sdpa", output_loading_info=True
        )
    except (OSError, SafetensorError, RuntimeError) as error:
        raise WeightsError(
            f"backbones.llm: {source} cannot be loaded: {error}. Check the name, that the download "
            "is complete, or the network."
        ) from error
    except (ValueError, KeyError) as error:
        raise SettingsError(
            f"backbones.llm: {source} is no causal language model that transformers knows: {error}"
        ) from error
    llm, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        raise WeightsError(
            f"backbones.llm: {source} lacks {len(missing)} weights, first {missing[0]}; "
            "get the model again"
        )
    return llm


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Silence the bars of transformers, which it draws for the smallest model too."""
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging
    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()


def _refuse_logit_transforms(llm: Any) -> None:
    for name, neutral in _LOGIT_TRANSFORMS.items():
        value = getattr(llm.config, name, neutral)
        if value not in (neutral, None):
            raise SettingsError(
                f"backbones.llm: {type(llm).__name__} changes its logits by {name} = {value}, "
                "which is not supported; choose another language model"
            )


@dataclass(frozen=True)
class LlmFingerprint:
    """What tells one language model from another.

    Attributes:
        architecture: class, layers, width and vocabulary.
        dtype: of the weights in memory.
        sampled_sha256: over the first numbers of every weight, so that large models take no time.
    """

    architecture: str
    dtype: str
    sampled_sha256: str


def fingerprint_llm(llm: Any) -> LlmFingerprint:
    """Return the fingerprint of a language model; an attached fusion does not change it."""
    config, digest = llm.config, hashlib.sha256()
    weights = sorted((name.replace(".original.", "."), w) for name, w in llm.named_parameters())
    for name, weight in weights:
        sample = weight.detach().flatten()[:_SAMPLES_PER_TENSOR].cpu().contiguous()
        digest.update(f"{name} {tuple(weight.shape)}\n".encode())
        digest.update(memoryview(sample.view(torch.uint8).numpy()))
    return LlmFingerprint(
        architecture=f"{type(llm).__name__} {config.num_hidden_layers}x{config.hidden_size}"
        f" vocabulary {config.vocab_size}",
        dtype=str(llm.get_input_embeddings().weight.dtype).removeprefix("torch."),
        sampled_sha256=digest.hexdigest(),
    )
