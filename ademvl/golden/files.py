"""Reads a folder of golden tensors: cases, hyper-parameters, and the frozen and trained weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from ademvl.config.method import ClipAdapterSettings, MethodSettings
from ademvl.config.run import BackboneSettings
from ademvl.errors import DataError
from ademvl.methods.adem.settings import AdemSettings
from ademvl.model.vision_language import VisionLanguageModel
from ademvl.released.reference_names import from_reference
from ademvl.storage.files import read_json
from ademvl.vision.tower import VisionTower, load_openai_format

REMEDY = "Copy the golden set again."


@dataclass(frozen=True)
class GoldenSet:
    """One folder of golden tensors, in the format of its README."""

    folder: Path

    def json(self, name: str) -> Any:
        """Return the content of `<name>.json`.

        Raises:
            DataError: the file is missing or malformed.
        """
        return read_json(self.folder / f"{name}.json", remedy=REMEDY)

    def tensors(self, name: str) -> dict[str, Tensor] | None:
        """Return the tensors of `<name>.safetensors`, None where there is no such file.

        Raises:
            DataError: the file is damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            return None
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise DataError(f"{path}: cannot be read: {error}. {REMEDY}") from error

    def require_tensors(self, name: str) -> dict[str, Tensor]:
        """Return the tensors of a file that must be there."""
        tensors = self.tensors(name)
        if tensors is None:
            raise DataError(f"{self.folder / name}.safetensors: no such file. {REMEDY}")
        return tensors

    def pixels(self, name: str) -> Tensor:
        """Return the pool of pixels `name` as fp32, (P, 3, H, W)."""
        return self.require_tensors("pixels")[name].float()

    @cached_property
    def sizes(self) -> Any:
        """Content of models/model.json."""
        return self.json("models/model")

    def tower(self) -> VisionTower:
        """Load the frozen vision tower, without adapters."""
        return load_openai_format(self.folder / "models" / "clip_openai_format.safetensors")

    def adapter(self) -> dict[str, Tensor]:
        """Return the initial trained tensors by our names."""
        state = self.require_tensors("models/adapter_init")
        return from_reference(state, source="adapter_init.safetensors")

    def settings(
        self,
        details: Mapping[str, Any],
        overrides: Mapping[str, Any] | None = None,
        *,
        with_cls: bool = True,
    ) -> AdemSettings:
        """Return the method's settings for a case.

        Args:
            details: content of the case's json; its `hyper` goes before the set's own.
            overrides: of a variant of the case, goes before both.
            with_cls: whether the variant has the [cls] slot.
        """
        hyper = {**self.sizes["hyper"], **details.get("hyper", {}), **(overrides or {})}
        num_adapters = sum(
            name.startswith("clip_adapters.") and name.endswith("down.weight")
            for name in self.adapter()
        )
        return AdemSettings(
            alpha=hyper["alpha"],
            beta=hyper["beta"],
            gamma=hyper["drop_ratio"],
            scales=tuple(hyper["down_sample_num"]),
            cls=with_cls,
            projection_width=hyper["hidden_proj"],
            clip_adapter=ClipAdapterSettings(
                dim=hyper["adapter_dim"],
                scale=hyper["clip_adapter_scale"],
                dropout=0.0,
                last_block=num_adapters == self.sizes["clip"]["layers"],
            ),
        )

    def model(self, settings: AdemSettings) -> VisionLanguageModel:
        """Build the model in training mode, with the initial trained tensors."""
        model = self.untrained(settings)
        state = self.adapter()
        if not settings.cls:
            state = {k: v for k, v in state.items() if not k.startswith("cls_projection")}
        model.load_adapter_state_dict(state, source="adapter_init.safetensors")
        return model

    def untrained(
        self, settings: MethodSettings, tower: VisionTower | None = None
    ) -> VisionLanguageModel:
        """Build any method on the frozen models, in training mode; trained tensors are not set.

        Args:
            tower: in place of the set's own.
        """
        return VisionLanguageModel(self.llm(), settings, tower or self.tower()).train()

    def llm(self) -> Any:
        """Load the frozen language model."""
        from ademvl.llm.loading import load_llm

        return load_llm(BackboneSettings(llm=str(self.llm_dirs()[0])))

    def llm_dirs(self) -> list[Path]:
        """Return the folders of the language model: the same weights in one or several shards."""
        folders = sorted(
            (path.parent for path in self.folder.glob("models/weights/*/params.json")),
            key=lambda folder: len(list(folder.glob("consolidated.*.pth"))),
        )
        if not folders:
            raise DataError(f"{self.folder}/models/weights: no language model. {REMEDY}")
        return folders


def largest_difference(mine: Tensor | None, expected: Tensor) -> float:
    """Return the largest absolute difference; infinity for a missing tensor or another shape."""
    if mine is None or mine.shape != expected.shape:
        return float("inf")
    if not expected.numel():
        return 0.0
    return float((mine.detach().double() - expected.double()).abs().max())


def by_reference_name(values: Mapping[str, Tensor | None]) -> dict[str, Tensor | None]:
    """Rename tensors, or gradients that may be missing, as the golden files do."""
    from ademvl.released.reference_names import reference_name, to_reference

    present = to_reference({name: value for name, value in values.items() if value is not None})
    return {reference_name(name): present.get(reference_name(name)) for name in values}
