"""Adapters as LaVIN's authors write them."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ademvl.methods.lavin.settings import LavinSettings, TowerAdapterKind
from ademvl.released.form import ReleasedForm, needed_tensor, number_argument
from ademvl.released.lavin_names import from_released, to_released

_CLS_EVERY = 4
_KINDS: Mapping[TowerAdapterKind, str] = {"routed": "router", "plain": "normal"}
_WIDTH_OF_13B = 5120
_TEMPERATURE_OF_13B = 5.0  # released scripts


class LavinForm(ReleasedForm):
    """See `ReleasedForm`.

    An imported adapter lets every image route itself, though it was trained with the batch's first
    image: `tower_routing: first_of_batch` evaluates it as the released code does.
    """

    method = "lavin"
    train_format = "QCM-ALE"
    sized_by = "modality_table"

    def from_released(self, state: Mapping[str, Tensor], *, source: str) -> dict[str, Tensor]:
        """See `lavin_names`."""
        return from_released(state, source=source)

    def to_released(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `lavin_names`."""
        return to_released(state)

    def settings_of(
        self, args: Mapping[str, Any], state: Mapping[str, Tensor], *, num_blocks: int, source: str
    ) -> LavinSettings:
        """See `ReleasedForm.settings_of`."""
        projection = needed_tensor(state, "cls_projection.down.weight", of="LaVIN", source=source)
        down = needed_tensor(state, "layers.0.down.weight", of="LaVIN", source=source)
        needed_tensor(state, self.sized_by, of="LaVIN", source=source)
        default = LavinSettings()
        temperature = default.temperature
        if down.shape[-1] == _WIDTH_OF_13B:
            temperature = _TEMPERATURE_OF_13B
        is_plain = any(name.startswith("clip_adapters.0.up.") for name in state)
        return LavinSettings(
            dim=len(down),
            scale=number_argument(args, "adapter_scale", default.scale, source=source),
            temperature=number_argument(args, "temperature", temperature, source=source),
            projection_width=len(projection),
            cls_blocks=_every_fourth(num_blocks),
            tower_adapters="plain" if is_plain else "routed",
        )

    def arguments_of(self, settings: LavinSettings) -> dict[str, Any]:
        """See `ReleasedForm.arguments_of`."""
        return {
            "adapter_dim": settings.dim,
            "adapter_scale": settings.scale,
            "temperature": settings.temperature,
            "hidden_proj": settings.projection_width,
            "visual_adapter_type": _KINDS[settings.tower_adapters],
        }

    def nearest(self, settings: LavinSettings, *, num_blocks: int) -> LavinSettings:
        """See `ReleasedForm.nearest`."""
        return LavinSettings(
            dim=settings.dim,
            scale=settings.scale,
            temperature=settings.temperature,
            projection_width=settings.projection_width,
            cls_blocks=_every_fourth(num_blocks),
            tower_adapters=settings.tower_adapters,
            tower_routing=settings.tower_routing,
            generated_positions=settings.generated_positions,
        )


def _every_fourth(num_blocks: int) -> tuple[int, ...]:
    """Return the blocks that the released code reads; one at least, which smaller towers refuse."""
    return tuple(range(_CLS_EVERY - 1, max(num_blocks, _CLS_EVERY), _CLS_EVERY))
