"""Adapters as MemVP's authors write them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from ademvl.config.method import ClipAdapterSettings
from ademvl.methods.memvp.settings import MemvpSettings
from ademvl.released.form import ReleasedForm, clip_adapter_of, needed_tensor, number_argument
from ademvl.released.memvp_names import from_released, to_released


class MemvpForm(ReleasedForm):
    """See `ReleasedForm`."""

    method = "memvp"
    train_format = "QCM-A"
    sized_by = "key_table"

    def from_released(self, state: Mapping[str, Tensor], *, source: str) -> dict[str, Tensor]:
        """See `memvp_names`."""
        return from_released(state, source=source)

    def to_released(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `memvp_names`."""
        return to_released(state)

    def settings_of(
        self, args: Mapping[str, Any], state: Mapping[str, Tensor], *, num_blocks: int, source: str
    ) -> MemvpSettings:
        """See `ReleasedForm.settings_of`."""
        grid = needed_tensor(state, "grid_projection.down.weight", of="MemVP", source=source)
        table = needed_tensor(state, "key_table", of="MemVP", source=source)
        default = MemvpSettings()
        return replace(
            default,
            alpha=number_argument(args, "adapter_scale", default.alpha, source=source),
            table_rows=len(table),
            projection_width=grid.shape[0],
            clip_adapter=clip_adapter_of(state, default.clip_adapter, num_blocks=num_blocks),
        )

    def arguments_of(self, settings: MemvpSettings) -> dict[str, Any]:
        """See `ReleasedForm.arguments_of`."""
        return {
            "adapter_scale": settings.alpha,
            "emb": settings.table_rows,
            "hidden_proj": settings.projection_width,
            "adapter_dim": settings.clip_adapter.dim,
        }

    def nearest(self, settings: MemvpSettings, *, num_blocks: int) -> MemvpSettings:
        """See `ReleasedForm.nearest`."""
        adapters = settings.clip_adapter
        return MemvpSettings(
            alpha=settings.alpha,
            table_rows=settings.table_rows,
            projection_width=settings.projection_width,
            clip_adapter=ClipAdapterSettings(dim=adapters.dim, last_block=adapters.last_block),
        )
