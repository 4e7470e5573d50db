"""The file of a trained adapter: what a user keeps, loadable without the workflow.

Its description is written last, and says that the weights are complete. It holds the fingerprints
of the frozen models, and an adapter is joined with no others.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ademvl.config.run import RunSettings
from ademvl.errors import WeightsError, list_findings
from ademvl.runs.adapter_folder import (
    DESCRIPTION_FILE,
    REMEDY,
    TRAINED_FORMS,
    WEIGHTS_FILE,
    adapter_checksum,
    described_settings,
    trained_settings,
)
from ademvl.runs.adapter_training import AdapterTraining
from ademvl.storage.files import atomic_path, read_json, sha256_file, write_json

if TYPE_CHECKING:
    from torch import Tensor

    from ademvl.data.prompt_forms import TrainedForms
    from ademvl.systems.trained import TrainableModel


def save_adapter(
    folder: Path,
    model: "TrainableModel",
    run: RunSettings,
    *,
    training: AdapterTraining | None = None,
    forms: "TrainedForms | None" = None,
) -> None:
    """Write the trained parameters, then `adapter.json`, which says that they are complete.

    `adapter.json` holds the SHA-256 of the weights, the number of parameters by tensor, the
    settings that the adapter needs (task, method, backbones, features, prompts, and `images` where
    they were withheld), the fingerprints of the frozen models; that of the tower with online
    features only, because otherwise the tower is not loaded; and of which training it is. `forms`,
    of the training split, stand there where they are known.
    """
    fingerprints = {
        "llm": _fingerprint_llm(model),
        "tower": model.tower.fingerprint if model.tower is not None else None,
    }
    write_adapter(
        folder,
        model.adapter_state_dict(),
        run,
        fingerprints=fingerprints,
        forms=forms,
        training=training,
    )


def _fingerprint_llm(model: "TrainableModel") -> dict[str, str]:
    from ademvl.llm.loading import fingerprint_llm

    return asdict(fingerprint_llm(model.llm, trained=model.method.parameters()))


def write_adapter(
    folder: Path,
    state: "Mapping[str, Tensor]",
    run: RunSettings,
    *,
    fingerprints: Mapping[str, Any],
    forms: "TrainedForms | None" = None,
    origin: Mapping[str, Any] | None = None,
    training: AdapterTraining | None = None,
) -> None:
    """Write an adapter folder, see `save_adapter`.

    Args:
        run: settings that the adapter needs.
        fingerprints: of the frozen models that it was trained with; empty where unknown.
        forms: of the prompts that it was trained on; None where unknown.
        origin: of an adapter that was not trained here, where it comes from.
        training: that it is of; None for one outside of any run.
    """
    from safetensors.torch import save_file

    with atomic_path(folder / WEIGHTS_FILE) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, temporary)
    description: dict[str, Any] = {
        "sha256": sha256_file(folder / WEIGHTS_FILE),
        "fingerprints": dict(fingerprints),
        "parameters": {name: tensor.numel() for name, tensor in state.items()},
        "settings": described_settings(run),
    }
    if forms is not None:
        description[TRAINED_FORMS] = forms.to_json()
    if origin is not None:
        description["origin"] = dict(origin)
    if training is not None:
        description |= training.to_json()
    write_json(folder / DESCRIPTION_FILE, description)


def load_adapter(folder: Path, model: "TrainableModel") -> None:
    """Set a model's parameters from an adapter folder; `check_settings` compares the rest.

    Raises:
        WeightsError: missing or damaged, not finite, or of other shapes or other frozen models than
            the model's.
    """
    model.load_adapter_state_dict(_read(folder, model), source=str(folder / WEIGHTS_FILE))


def start_from_adapter(run: RunSettings, model: "TrainableModel") -> None:
    """Set the parameters of a model that the adapter has which its run starts from.

    Those that it lacks keep their initial values.

    Raises:
        WeightsError: as for `load_adapter`; or of another method, or without parameters that the
            run does not train.
    """
    folder = Path(run.start_from)
    name = trained_settings(folder).method.name
    if name != run.method.name:
        raise WeightsError(
            f"{folder}: an adapter of method {name}, but run {run.name}, which starts from it, "
            f"trains {run.method.name}. Name one of the same method as start_from."
        )
    source = str(folder / WEIGHTS_FILE)
    model.load_adapter_state_dict(_read(folder, model), source=source, is_start=True)


def _read(folder: Path, model: "TrainableModel") -> "dict[str, Tensor]":
    """Read the tensors of an adapter that was trained with the frozen models of `model`."""
    from safetensors.torch import load_file

    adapter_checksum(folder)
    recorded = read_json(folder / DESCRIPTION_FILE, remedy=REMEDY).get("fingerprints", {})
    path = folder / WEIGHTS_FILE
    _check_llm(path, recorded.get("llm"), _fingerprint_llm(model))
    if model.tower is not None and recorded.get("tower") not in (None, model.tower.fingerprint):
        raise WeightsError(
            f"{path}: trained with the vision tower {recorded['tower']}, but the model has "
            f"{model.tower.fingerprint}. {REMEDY}"
        )
    state = load_file(path)
    refuse_not_finite_weights(state, source=path)
    return state


def refuse_not_finite_weights(state: "Mapping[str, Tensor]", *, source: Path) -> None:
    """Make sure that an adapter holds numbers only.

    Raises:
        WeightsError: lists the tensors that do not.
    """
    findings = not_finite_weights(state)
    if findings:
        remedy = "It has diverged or is damaged: train again with a lower base_lr, or get it anew."
        raise WeightsError(list_findings(f"{source}: weights are not finite", findings, remedy))


def not_finite_weights(state: "Mapping[str, Tensor]") -> list[str]:
    """Return which tensors hold numbers that are not finite, and how many."""
    counts = {name: int((~tensor.isfinite()).sum()) for name, tensor in state.items()}
    return [f"{name}: {n} of {state[name].numel()}" for name, n in counts.items() if n]


def _check_llm(path: Path, recorded: Mapping[str, str] | None, found: Mapping[str, str]) -> None:
    """Refuse another language model; weights are compared where both have one precision."""
    if recorded is None:
        return
    keys = ["architecture"]
    if recorded["dtype"] == found["dtype"]:
        keys.append("sampled_sha256")
    for key in keys:
        if recorded[key] != found[key]:
            raise WeightsError(
                f"{path}: trained with another language model: {key} {recorded[key]}, "
                f"found {found[key]}. {REMEDY}"
            )
