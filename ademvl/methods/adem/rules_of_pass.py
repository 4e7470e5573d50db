"""The fusion rules as a pass applies them in each layer, with their dropout in training."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from ademvl.methods.adem.keeping import Keeping
from ademvl.methods.adem.rule import fuse_adem
from ademvl.methods.adem.settings import AdemSettings
from ademvl.methods.dropout import drop_parts, drop_rows
from ademvl.methods.memvp.method import MEMVP_DROPOUT, fuse_memvp


@dataclass(frozen=True)
class AdemRule:
    """Parameter-free cross-attention of the scores that are kept; see `fuse_adem` and `Rule`.

    Attributes:
        settings: of the method.
        keeping: what is kept of a layer's scores.
        dropout_seeds: one for each row; None in evaluation.
    """

    settings: AdemSettings
    keeping: Keeping
    dropout_seeds: Sequence[int] | None

    def __call__(
        self, queries: Tensor, keys: Tensor, values: Tensor, *, target: Tensor, layer: int
    ) -> Tensor:
        """See `Rule`."""
        return fuse_adem(
            queries,
            keys,
            values,
            target=target,
            alpha=self.settings.alpha,
            phi=self.settings.phi,
            select=partial(self._select, queries=queries, layer=layer),
        )

    def _select(self, scores: Tensor, *, queries: Tensor, layer: int) -> Tensor:
        """Return the scores, (B, T, N), with zeros for what is not kept, or dropped at random."""
        settings, seeds = self.settings, self.dropout_seeds
        scores = self.keeping.select(scores, queries, layer)
        p, purpose = settings.score_dropout, f"fusion scores.{layer}"
        scores = drop_rows(scores, seeds, p=p, purpose=purpose)
        p, purpose = settings.layer_dropout, f"fusion layers.{layer}"
        return drop_parts(scores, seeds, dims=1, p=p, purpose=purpose)


@dataclass(frozen=True)
class MemvpRule:
    """MemVP's memory, the baseline of the component ablation; see `fuse_memvp` and `Rule`.

    Attributes:
        alpha: of the settings.
        dropout_seeds: one for each row; None in evaluation.
    """

    alpha: float
    dropout_seeds: Sequence[int] | None

    def __call__(
        self, queries: Tensor, keys: Tensor, values: Tensor, *, target: Tensor, layer: int
    ) -> Tensor:
        """See `Rule`."""
        purpose = f"memvp.{layer}"
        drop = partial(drop_rows, seeds=self.dropout_seeds, p=MEMVP_DROPOUT, purpose=purpose)
        return fuse_memvp(queries, keys, values, target=target, alpha=self.alpha, drop=drop)
