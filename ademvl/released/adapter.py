"""Turns a checkpoint of the authors into an adapter folder, and an adapter folder into one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ademvl.config.method import MethodSettings
from ademvl.config.released import find_checkpoint
from ademvl.config.run import BackboneSettings, FeatureSettings, RunSettings
from ademvl.config.tasks import TaskName
from ademvl.errors import WeightsError, list_findings
from ademvl.model.adapter_file import write_adapter
from ademvl.released.arguments import args_of, check_fits, prompts_of, task_of
from ademvl.released.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from ademvl.released.forms import FORMS
from ademvl.runs.adapter_folder import DESCRIPTION_FILE, WEIGHTS_FILE, adapter_checksum
from ademvl.runs.trained_adapter import find_adapter
from ademvl.storage.files import read_json, sha256_file


def read_for_run(path: Path, run: RunSettings) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
    """Read the adapter of a checkpoint for a run whose settings are given.

    Args:
        path: the checkpoint, or a folder that holds one.
        run: what it is evaluated with.

    Returns:
        The trained tensors, and where they come from, as adapter.json says it.

    Raises:
        WeightsError: the file is unreadable, or its tensors do not fit the run's tower.
        SettingsError: lists settings that differ from those that it was trained with.
    """
    file = find_checkpoint(path)
    checkpoint = read_checkpoint(file)
    method = _method_of(checkpoint, run.backbones, file)
    check_fits(run, method, checkpoint.args, str(file))
    _check_shapes(file, checkpoint, run)
    return checkpoint.state, _origin(file, checkpoint)


def import_adapter(
    path: Path, folder: Path, *, backbones: BackboneSettings, task: TaskName | None = None
) -> dict[str, Any]:
    """Write the adapter of a checkpoint with the settings that the checkpoint itself tells.

    Args:
        folder: adapter folder to write.
        backbones: the frozen models that it belongs to; the checkpoint does not hold them.
        task: what it was trained for; by default as its arguments say.

    Returns:
        Where it comes from, as adapter.json says it.

    Raises:
        WeightsError, SettingsError: what is wrong with the file, or does not fit the tower.
    """
    file = find_checkpoint(path)
    checkpoint = read_checkpoint(file)
    run = RunSettings(
        study="",
        name=file.stem,
        seed=0,
        data_dir="",
        task=task or task_of(checkpoint.args, source=str(file)),
        method=_method_of(checkpoint, backbones, file),
        backbones=backbones,
        features=FeatureSettings(mode="online"),
        prompts=prompts_of(checkpoint.args, FORMS[checkpoint.method]),
    )
    _check_shapes(file, checkpoint, run)
    origin = _origin(file, checkpoint)
    # The frozen models that it was trained with are not in the file: nothing to compare later.
    write_adapter(folder, checkpoint.state, run, fingerprints={}, origin=origin)
    return origin


def _method_of(checkpoint: Checkpoint, backbones: BackboneSettings, file: Path) -> MethodSettings:
    from ademvl.vision.tower import tower_shape

    return FORMS[checkpoint.method].settings_of(
        checkpoint.args,
        checkpoint.state,
        num_blocks=tower_shape(backbones).num_blocks,
        source=str(file),
    )


def _origin(file: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "file": file.name,
        "sha256": sha256_file(file),
        "format": "authors' checkpoint",
        "epoch": checkpoint.epoch,
        "is_distributed": checkpoint.is_distributed,
        "args": dict(checkpoint.args),
    }


def _check_shapes(file: Path, checkpoint: Checkpoint, run: RunSettings) -> None:
    """Compare names and shapes with those that the run's model will have."""
    import torch

    from ademvl.methods.base import DecoderShape
    from ademvl.methods.registry import build_method
    from ademvl.vision.tower import tower_shape

    state = checkpoint.state
    width = state[FORMS[checkpoint.method].sized_by].shape[-1]  # the language model may be away
    layers = len({name.split(".")[1] for name in state if name.startswith("layers.")})
    llm = DecoderShape(
        width=width, layers=layers, heads=1, kv_heads=1, head_dim=width, ffn_width=width
    )
    with torch.device("meta"):
        method = build_method(
            run.method,
            llm=llm,
            tower=tower_shape(run.backbones),
            trains_tower=run.features.mode == "online",
        )
    named = dict(method.named_parameters())
    expected = {name: tuple(parameter.shape) for name, parameter in named.items()}
    findings = [f"{name}: missing" for name in expected if name not in state]
    findings += [f"{name}: not part of this model" for name in state if name not in expected]
    findings += [
        f"{name}: shape {tuple(state[name].shape)}, expected {size}"
        for name, size in expected.items()
        if name in state and tuple(state[name].shape) != size
    ]
    if findings:
        remedy = (
            "The authors' adapters need features.mode online, and backbones.tower "
            "ViT-L-14-quickgelu."
        )
        headline = f"{file}: does not fit {run.backbones.tower}"
        raise WeightsError(list_findings(headline, findings, remedy))


def export_adapter(folder: Path, file: Path) -> None:
    """Write an adapter folder, ours or imported, in the authors' form.

    An imported adapter gets the names, arguments and epoch that it came with: its tensors are those
    of the checkpoint, bit for bit.

    Args:
        folder: adapter folder, or a run's directory.
        file: checkpoint to write.

    Raises:
        WeightsError: there is no complete adapter.
        SettingsError: the authors' code has no such adapter.
    """
    from safetensors.torch import load_file

    trained = find_adapter(folder)
    adapter_checksum(trained.folder)
    description = read_json(trained.folder / DESCRIPTION_FILE, remedy="Import or train it again.")
    origin = description.get("origin") or {}
    args = origin.get("args") or args_of(trained.run)
    write_checkpoint(
        file,
        Checkpoint(
            state=load_file(trained.folder / WEIGHTS_FILE),
            args=args,
            epoch=origin.get("epoch"),
            is_distributed=bool(origin.get("is_distributed")),
            method=trained.run.method.name,
        ),
    )
