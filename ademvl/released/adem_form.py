"""Adapters as ADEM-VL's authors write them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from ademvl.config.method import ClipAdapterSettings
from ademvl.errors import WeightsError
from ademvl.methods.adem.settings import AdemSettings
from ademvl.released.form import ReleasedForm, clip_adapter_of, needed_tensor, number_argument
from ademvl.released.reference_names import from_reference, to_reference

_SCALARS = {"alpha": "alpha", "beta": "beta", "drop_ratio": "gamma"}  # theirs: ours


class AdemForm(ReleasedForm):
    """See `ReleasedForm`."""

    method = "adem"
    train_format = "CQM-A"
    sized_by = "key_table"

    def from_released(self, state: Mapping[str, Tensor], *, source: str) -> dict[str, Tensor]:
        """See `from_reference`."""
        return from_reference(state, source=source)

    def to_released(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `to_reference`."""
        return to_reference(state)

    def settings_of(
        self, args: Mapping[str, Any], state: Mapping[str, Tensor], *, num_blocks: int, source: str
    ) -> AdemSettings:
        """See `ReleasedForm.settings_of`."""
        grid = needed_tensor(state, "grid_projection.down.weight", of="ADEM-VL", source=source)
        num_visual_tokens = len(needed_tensor(state, "key_table", of="ADEM-VL", source=source))
        default = AdemSettings()
        try:
            scales = tuple(int(scale) for scale in args.get("down_sample_num") or default.scales)
        except (TypeError, ValueError) as error:
            raise WeightsError(f"{source}: an argument is no number: {error}") from None
        if sum(scales) != num_visual_tokens:
            raise WeightsError(
                f"{source}: its tables have {num_visual_tokens} rows, but down_sample_num {scales} "
                f"makes {sum(scales)}"
            )
        scalars: dict[str, Any] = {
            ours: number_argument(args, theirs, getattr(default, ours), source=source)
            for theirs, ours in _SCALARS.items()
        }
        return replace(
            default,
            **scalars,
            scales=scales,
            cls="cls_projection.down.weight" in state,
            projection_width=grid.shape[0],
            clip_adapter=clip_adapter_of(state, default.clip_adapter, num_blocks=num_blocks),
        )

    def arguments_of(self, settings: AdemSettings) -> dict[str, Any]:
        """See `ReleasedForm.arguments_of`."""
        return {
            **{theirs: getattr(settings, ours) for theirs, ours in _SCALARS.items()},
            "down_sample_num": list(settings.scales),
            "no_cls": not settings.cls,
            "hidden_proj": settings.projection_width,
            "adapter_dim": settings.clip_adapter.dim,
        }

    def nearest(self, settings: AdemSettings, *, num_blocks: int) -> AdemSettings:
        """See `ReleasedForm.nearest`."""
        adapters = settings.clip_adapter
        return AdemSettings(
            alpha=settings.alpha,
            beta=settings.beta,
            gamma=settings.gamma,
            scales=settings.scales,
            cls=settings.cls,
            projection_width=settings.projection_width,
            clip_adapter=ClipAdapterSettings(dim=adapters.dim, last_block=adapters.last_block),
        )
