"""Resumable training state on disk: atomic, checksummed, the last two kept.

A state is a pair of files, `step-<n>.safetensors` and `step-<n>.json`. The second is written last
and holds the checksum of the first, so a pair is either whole or recognisably not.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ademvl.config.nested import differences
from ademvl.errors import DataError
from ademvl.storage.files import atomic_path, dump_json, read_json, sha256_file, write_json
from ademvl.training.averaging import WeightAverage

_log = logging.getLogger(__name__)

FORMAT = 2
KEPT = 2
_PARAMETER, _OPTIMIZER, _AVERAGE = "parameter", "optimizer", "average"


@dataclass(frozen=True)
class TrainingState:
    """Everything that a training needs to go on as if it had never stopped.

    Attributes:
        step: optimiser steps done.
        tensors: trained parameters, optimiser state and averages of parameters, by
            `parameter/<name>`, `optimizer/<key>/<name>` and `average/<name>`.
        record: the rest, as plain JSON.
    """

    step: int
    tensors: Mapping[str, Tensor]
    record: Mapping[str, Any]


class StateStore:
    """The states of one run.

    Args:
        folder: `state/` of the run's directory.
        identity: what determines the results of the run, as plain JSON; states of another
            identity are never loaded.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self._folder = folder
        self._identity = json.loads(json.dumps(identity))

    def save(self, state: TrainingState) -> None:
        """Write a state and remove all but the last two; killed anywhere, one stays readable."""
        from safetensors.torch import save_file

        tensors_path = self._folder / f"step-{state.step:08d}.safetensors"
        with atomic_path(tensors_path) as temporary:
            contiguous = {name: tensor.contiguous() for name, tensor in state.tensors.items()}
            save_file(contiguous, temporary)
            checksum = sha256_file(temporary)
        content = {
            "format": FORMAT,
            "step": state.step,
            "tensors_sha256": checksum,
            "identity": self._identity,
            "record": state.record,
        }
        path = tensors_path.with_suffix(".json")
        write_json(path, {**content, "content_sha256": _content_sha256(content)})
        self._prune(newest=state.step)

    def load_newest(self) -> TrainingState | None:
        """Return the newest whole state of this run, or None.

        A damaged state is skipped with a warning, one of other settings with a message that
        names what differs.
        """
        for path in sorted(self._folder.glob("step-*.json"), reverse=True):
            try:
                state = self._load(path)
            except DataError as error:
                _log.warning("state not used: %s", error)
                continue
            if state is not None:
                return state
        return None

    def clear(self) -> None:
        """Remove all states; the folder too when nothing else is in it."""
        self._prune(newest=-1)
        if self._folder.is_dir() and not any(self._folder.iterdir()):
            self._folder.rmdir()

    def _load(self, path: Path) -> TrainingState | None:
        from safetensors.torch import load_file

        content = read_json(path, remedy="It is ignored.")
        checksum = content.pop("content_sha256", "") if isinstance(content, dict) else ""
        if checksum != _content_sha256(content):
            raise DataError(f"{path}: damaged (checksum differs)")
        if content["format"] != FORMAT:
            raise DataError(f"{path}: format {content['format']}, this version reads {FORMAT}")
        found = [
            f"{key}: {theirs} -> {ours}"
            for key, theirs, ours in differences(content["identity"], self._identity)
        ]
        if found:
            _log.warning(
                "state not used: %s was written under other settings: %s", path, "; ".join(found)
            )
            return None
        tensors_path = path.with_suffix(".safetensors")
        if not tensors_path.is_file() or sha256_file(tensors_path) != content["tensors_sha256"]:
            raise DataError(f"{tensors_path}: missing or damaged (checksum differs)")
        return TrainingState(content["step"], load_file(tensors_path), content["record"])

    def _prune(self, *, newest: int) -> None:
        """Remove states but the last two up to `newest`; a state after it is damaged or foreign."""
        states = sorted(self._folder.glob("step-*.json"))
        wanted = [path for path in states if int(path.stem.removeprefix("step-")) <= newest]
        keep = {path.stem for path in wanted[-KEPT:]}
        for path in states:
            if path.stem not in keep:
                path.unlink(missing_ok=True)
        for path in self._folder.glob("step-*.safetensors"):
            if path.stem not in keep:
                path.unlink(missing_ok=True)
        for pattern in (".step-*.tmp", ".tmp*"):  # the latter is of safetensors
            for leftover in self._folder.glob(pattern):
                leftover.unlink(missing_ok=True)


def _content_sha256(content: object) -> str:
    return hashlib.sha256(dump_json(content).encode()).hexdigest()


def capture(
    parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """Copy trained parameters and their optimiser state to the CPU, by name."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        tensors[f"{_PARAMETER}/{name}"] = parameter.detach().cpu().clone()
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{_OPTIMIZER}/{key}/{name}"] = value.detach().cpu().clone()
    return tensors


def capture_average(average: WeightAverage) -> dict[str, Tensor]:
    """Copy averages of parameters to the CPU, by name."""
    return {f"{_AVERAGE}/{name}": mean.cpu().clone() for name, mean in average.means.items()}


def restore_average(
    tensors: Mapping[str, Tensor], average: WeightAverage, *, num_steps: int
) -> None:
    """Put captured averages back, of as many steps as had been taken in."""
    means = {name: tensors[f"{_AVERAGE}/{name}"] for name in average.means}
    average.restore(means, num_steps)


def restore(
    tensors: Mapping[str, Tensor],
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Put captured parameters and optimiser state back.

    Raises:
        DataError: the names do not match the model's.
    """
    stored = {name.split("/", 1)[1] for name in tensors if name.startswith(f"{_PARAMETER}/")}
    if stored != set(parameters):
        raise DataError(
            f"training state holds other parameters: {sorted(stored ^ set(parameters))[:5]}; "
            "delete the run's state/ and train again"
        )
    by_identity = {id(parameter): name for name, parameter in parameters.items()}
    layout = optimizer.state_dict()
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"{_PARAMETER}/{name}"])
    flat = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    names = [by_identity[id(parameter)] for parameter in flat]
    layout["state"] = {
        index: state for index, name in enumerate(names) if (state := _state_of(tensors, name))
    }
    optimizer.load_state_dict(layout)


def _state_of(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    found = {}
    for key, tensor in tensors.items():
        kind, _, rest = key.partition("/")
        if kind == _OPTIMIZER:
            entry, _, owner = rest.partition("/")
            if owner == name:
                found[entry] = tensor
    return found
