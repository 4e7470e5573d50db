"""Frozen weights in 8 or 4 bits, through bitsandbytes, and GGUF files, through transformers.

Only linear layers of the decoder are quantised; embeddings, norms and the output layer keep the
run's precision, and so does everything that is trained.
"""

import logging
from typing import Any

from ademvl.config.run import BackboneSettings
from ademvl.errors import SettingsError, ToolError
from ademvl.llm.source import LlmSource

_NOISY_LOGGER = "bitsandbytes.autograd._functions"
_PACKS_ANEW = "support_avx512bf16_for_cpu"  # attribute of bitsandbytes' Linear4bit
_GGUF_SINCE = "5.23"  # earlier releases take the end token for the begin token, for one


def quantization_options(backbones: BackboneSettings, source: LlmSource) -> dict[str, Any]:
    """Return what `from_pretrained` needs beside the name to give weights the bits asked for.

    4 bits are NormalFloat with doubly quantised constants (QLoRA, arXiv 2305.14314, section 3);
    8 bits are LLM.int8() (arXiv 2208.07339).

    Raises:
        SettingsError: the model lies in a layout that cannot be quantised.
        ToolError: bitsandbytes is not installed, or transformers is too old for GGUF files.
    """
    if source.gguf_file:
        if backbones.quantization != "none":
            raise SettingsError(
                f"backbones.quantization: {backbones.quantization}, but {backbones.llm} is a GGUF "
                "file, which is unpacked to `precision`; set none, or use the model in the layout "
                "of transformers"
            )
        import transformers
        from packaging.version import Version

        if Version(transformers.__version__) < Version(_GGUF_SINCE):
            raise ToolError(
                f"{backbones.llm}: transformers {transformers.__version__} misreads GGUF files; "
                f"pip install 'transformers>={_GGUF_SINCE}'"
            )
        return {"quantization_config": transformers.GgufConfig(dequantize=True)}
    if backbones.quantization == "none":
        return {}
    if source.is_meta:
        raise SettingsError(
            f"backbones.quantization: {backbones.quantization}, but {source.name} is in the layout "
            f"of Meta's releases; first run `ademvl backbones convert {source.name} --output DIR` "
            "and name DIR"
        )
    return {"quantization_config": _bitsandbytes_config(backbones)}


def _bitsandbytes_config(backbones: BackboneSettings) -> Any:
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise ToolError(
            f"backbones.quantization: {backbones.quantization} needs the package bitsandbytes: "
            f"pip install 'ademvl[quantized]' ({error})"
        ) from error
    from transformers import BitsAndBytesConfig

    from ademvl.machine.precision import DTYPES

    if backbones.quantization == "int8":
        logging.getLogger(_NOISY_LOGGER).addFilter(_is_no_cast)
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=DTYPES[backbones.precision],
    )


def keep_layout(llm: Any) -> None:
    """Keep 4-bit layers from packing their weights anew at their first pass without gradients.

    On CPUs with bf16 instructions bitsandbytes does so, multiplies in bf16 from then on, training
    included, whatever its compute dtype, and writes broken states. Elsewhere this changes nothing.
    """
    for module in llm.modules():
        if hasattr(module, _PACKS_ANEW):
            setattr(module, _PACKS_ANEW, False)


def _is_no_cast(record: logging.LogRecord) -> bool:
    """Leave out what is said at every product: that 8-bit ones are computed in fp16."""
    return "inputs will be cast" not in record.getMessage()


def quantization_name(llm: Any) -> str:
    """Return `int8` or `int4` for a loaded model whose layers are kept so, else nothing."""
    if getattr(llm, "is_loaded_in_8bit", False):
        return "int8"
    return "int4" if getattr(llm, "is_loaded_in_4bit", False) else ""
