"""Loading a frozen causal language model: shipped, of transformers, GGUF, or in Meta's layout."""

import hashlib
import io
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ademvl.config.run import BackboneSettings
from ademvl.errors import SettingsError, ToolError, WeightsError
from ademvl.llm.meta_format import load_meta_llama
from ademvl.llm.quantized import keep_layout, quantization_name, quantization_options
from ademvl.llm.source import LlmSource, find_llm
from ademvl.machine.precision import DTYPES

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SAMPLES_PER_TENSOR = 4096
_WRAPPED_BY_PEFT = ".base_layer."  # in names of weights beside which a method trains LoRA
# Models that change the logits behind their output layer, by the setting that says so and the
# value that changes nothing.
_LOGIT_TRANSFORMS: Mapping[str, object] = {
    "final_logit_softcapping": None,
    "logit_scale": 1,
    "logits_scaling": 1,
}


def load_llm(
    backbones: BackboneSettings, *, device: torch.device | None = None
) -> "PreTrainedModel":
    """Load the language model in the precision asked for, frozen, in evaluation mode.

    Each weight goes to its device in its final dtype as soon as it is read: there is never a second
    copy of the model, neither on the CPU nor in another precision.

    Args:
        backbones: `llm` is `mini`, a folder in the layout of transformers or of Meta's releases,
            a GGUF file, whose quantised weights are unpacked, or a repository id. Weights stored in
            another precision are converted; `quantization` keeps those of linear layers in 8 or 4
            bits.
        device: where the weights go; the CPU by default.

    Raises:
        WeightsError: the model is missing, damaged or incomplete.
        SettingsError: it is no causal language model that transformers knows, or one whose logits
            are changed behind its output layer; or it cannot be quantised.
        ToolError: a package that the settings need is missing.
    """
    from transformers import AutoModelForCausalLM

    source = find_llm(backbones)
    if source.is_meta:
        quantization_options(backbones, source)  # refuses any
        with _without_progress_bars():
            llm: Any = load_meta_llama(
                Path(source.name), dtype=DTYPES[backbones.precision], device=device
            )
        llm = llm.eval().requires_grad_(False)
    else:
        llm = load_frozen(AutoModelForCausalLM, backbones, device=device, attention="sdpa")
        llm = _text_alone(llm)
    _refuse_logit_transforms(llm)
    frozen: PreTrainedModel = llm
    return frozen


def _text_alone(llm: Any) -> Any:
    """Return a Gemma 3 that sees images itself, from 4B on, as the model of text that it holds."""
    if llm.config.model_type != "gemma3":
        return llm
    from transformers import Gemma3ForCausalLM

    with torch.device("meta"):
        text = Gemma3ForCausalLM(llm.config.get_text_config())
    text.model, text.lm_head = llm.model.language_model, llm.lm_head
    return text.eval().requires_grad_(False)


def load_frozen(
    model_class: Any,
    backbones: BackboneSettings,
    *,
    device: torch.device | None = None,
    attention: str | None = None,
) -> Any:
    """Load what `backbones.llm` names by a class of transformers, as `load_llm` does.

    `attention` is the implementation in transformers; None leaves the model's own choice.
    """
    source, dtype = find_llm(backbones), DTYPES[backbones.precision]
    options = {"attn_implementation": attention, **quantization_options(backbones, source)}
    if device is not None or backbones.quantization != "none" or source.gguf_file:
        options["device_map"] = {"": device or torch.device("cpu")}
    with _without_progress_bars():
        model = _load_pretrained(model_class, source, dtype, options)
    keep_layout(model)
    return model.eval().requires_grad_(False)


def _load_pretrained(
    model_class: Any,
    source: LlmSource,
    dtype: torch.dtype,
    options: Mapping[str, Any],
) -> Any:
    from safetensors import SafetensorError

    name = f"{source.name}/{source.gguf_file}" if source.gguf_file else source.name
    source.refuse_stand_ins()
    loaded: Any
    try:
        loaded = model_class.from_pretrained(
            source.name,
            dtype=dtype,
            output_loading_info=True,
            **source.options,
            **options,
        )
    except ImportError as error:
        raise ToolError(f"backbones.llm: {name} cannot be loaded: {error}") from error
    except (OSError, SafetensorError, RuntimeError, struct.error) as error:
        raise WeightsError(
            f"backbones.llm: {name} cannot be loaded: {error}. Check the name, that the download "
            "is complete, or the network."
        ) from error
    except (ValueError, KeyError) as error:
        raise SettingsError(
            f"backbones.llm: {name} is no model that transformers knows as {model_class.__name__}, "
            f"or damaged: {error}"
        ) from error
    llm, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        raise WeightsError(
            f"backbones.llm: {name} lacks {len(missing)} weights, first {missing[0]}; "
            "get the model again"
        )
    return llm


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Silence the bars of transformers, which it draws for the smallest model too.

    That of GGUF files knows no switch: it goes where nobody reads. Warnings are logged elsewhere.
    """
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging
    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with redirect_stderr(io.StringIO()):
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
        dtype: of the weights in memory, and in how many bits linear layers are kept if not in it.
        sampled_sha256: over the first numbers of every weight, so that large models take no time.
    """

    architecture: str
    dtype: str
    sampled_sha256: str


def fingerprint_llm(llm: Any, *, trained: Iterable[nn.Parameter] = ()) -> LlmFingerprint:
    """Return the fingerprint of a language model; an attached method does not change it.

    Args:
        llm: causal language model.
        trained: parameters of the method, which may stand inside the model.
    """
    config, digest = llm.config, hashlib.sha256()
    skipped = {id(parameter) for parameter in trained}
    weights = sorted(
        (name.replace(_WRAPPED_BY_PEFT, "."), weight)
        for name, weight in llm.named_parameters()
        if id(weight) not in skipped
    )
    for name, weight in weights:
        sample = weight.detach().flatten()[:_SAMPLES_PER_TENSOR].cpu().contiguous()
        digest.update(f"{name} {tuple(weight.shape)}\n".encode())
        digest.update(memoryview(sample.view(torch.uint8).numpy()))
    dtype = str(llm.get_input_embeddings().weight.dtype).removeprefix("torch.")
    return LlmFingerprint(
        architecture=f"{type(llm).__name__} {config.num_hidden_layers}x{config.hidden_size}"
        f" vocabulary {config.vocab_size}",
        dtype=" ".join(filter(None, (dtype, quantization_name(llm)))),
        sampled_sha256=digest.hexdigest(),
    )
