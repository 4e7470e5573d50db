"""Attaching a fusion to a decoder of transformers, and detaching it without a trace.

Every decoder layer computes `h = h + self_attn(norm(h))` and `h = h + mlp(norm(h))`. A thin module
takes the place of `layer.mlp` or `layer.self_attn`, keeps the original inside, and reads or changes
the states that go in and come out; nothing else of the language model is touched. What is fused
stands in one context object that is set for the duration of a forward pass.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from ademvl.config.method import Position
from ademvl.errors import SettingsError

Fuse = Callable[[Tensor, Tensor, int], Tensor]
"""(queries (B, T, d), target (B, T, d), layer) -> target with the fused states added."""

_POSITIONS_OF: dict[str, tuple[Position, Position]] = {
    "self_attn": ("mhsa_in", "mhsa_out"),
    "mlp": ("mlp_in", "mlp_out"),
}


@dataclass
class _Pass:
    """One forward pass: what to fuse, and queries read but not yet used, by layer."""

    fuse: Fuse
    queries: dict[int, Tensor] = field(default_factory=dict)


class FusionContext:
    """The one place where wrappers find the current forward pass's fusion.

    Args:
        query_from: where text states are read in each layer.
        add_to: where the fused states are added, not before `query_from`.
    """

    def __init__(self, *, query_from: Position, add_to: Position) -> None:
        self.query_from = query_from
        self.add_to = add_to
        self._current: _Pass | None = None

    def active(self, fuse: Fuse) -> AbstractContextManager[None]:
        """Return a block in which the attached model fuses by `fuse`; blocks may be nested."""
        return self._during(_Pass(fuse))

    @contextmanager
    def _during(self, current: _Pass) -> Iterator[None]:
        previous, self._current = self._current, current
        try:
            yield
        finally:
            self._current = previous

    def checkpoint_contexts(
        self,
    ) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Return the contexts of a checkpointed layer's forward pass and of its recomputation.

        To be given as `context_fn` to `torch.utils.checkpoint`: the layer is recomputed in the
        backward pass, when the forward pass's block is over, and finds its fusion again.
        """
        return nullcontext(), self._during(_Pass(self._require().fuse))

    def visit(self, position: Position, layer: int, states: Tensor) -> Tensor:
        """Read `states` as queries, or add to them, or neither, as `position` asks."""
        if position not in (self.query_from, self.add_to):
            return states
        current = self._require()
        if position == self.query_from:
            current.queries[layer] = states
        if position == self.add_to:
            return current.fuse(current.queries.pop(layer), states, layer)
        return states

    def _require(self) -> _Pass:
        if self._current is None:
            raise RuntimeError(
                "the language model has a fusion attached and was called outside of a fused block; "
                "call it through VisionLanguageModel, or detach first. Gradient checkpointing must "
                "be enabled by VisionLanguageModel.enable_checkpointing"
            )
        return self._current


class FusionSite(nn.Module):
    """A submodule of a decoder layer with the fusion at its input or output."""

    def __init__(
        self,
        original: nn.Module,
        context: FusionContext,
        *,
        layer: int,
        positions: tuple[Position, Position],
    ) -> None:
        super().__init__()
        self.original = original
        self._context = context
        self._layer = layer
        self._positions = positions

    def __getattr__(self, name: str) -> Any:
        """Give what the decoder layer may read from the submodule, such as its index."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "original":
                raise
            return getattr(super().__getattr__("original"), name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the original with everything passed through; touch only states and output[0]."""
        before, after = self._positions
        if args:
            args = (self._context.visit(before, self._layer, args[0]), *args[1:])
        else:
            states = self._context.visit(before, self._layer, kwargs["hidden_states"])
            kwargs = {**kwargs, "hidden_states": states}
        output = self.original(*args, **kwargs)
        if isinstance(output, tuple):
            return (self._context.visit(after, self._layer, output[0]), *output[1:])
        return self._context.visit(after, self._layer, output)


@dataclass(frozen=True)
class Attachment:
    """A fusion attached to a language model."""

    sites: tuple[tuple[nn.Module, str, FusionSite], ...]

    def detach(self) -> None:
        """Put the originals back: the base model is bit-identical to what it was."""
        for layer, name, site in self.sites:
            setattr(layer, name, site.original)


def attach(llm: nn.Module, context: FusionContext) -> Attachment:
    """Wrap the submodules of every decoder layer that the context's positions need.

    Args:
        llm: any model of transformers whose layers are `llm.model.layers[i]` with `mlp` and
            `self_attn`: Llama, Mistral, Qwen, Gemma, Phi-3, OLMo and most others.
        context: read by the wrappers at each call.

    Raises:
        SettingsError: the model has another layout, or a fusion is attached already.
    """
    wanted = {context.query_from, context.add_to}
    names = [name for name, positions in _POSITIONS_OF.items() if wanted & set(positions)]
    layers = decoder_layers(llm)
    for index, layer in enumerate(layers):
        for name in names:
            original = getattr(layer, name, None)
            if not isinstance(original, nn.Module):
                raise SettingsError(_wrong_layout(llm, f"model.layers.{index}.{name}"))
            if isinstance(original, FusionSite):
                raise SettingsError(f"{type(llm).__name__}: a fusion is attached already")
    sites = []
    for index, layer in enumerate(layers):
        for name in names:
            site = FusionSite(
                getattr(layer, name), context, layer=index, positions=_POSITIONS_OF[name]
            )
            site.train(layer.training)
            setattr(layer, name, site)
            sites.append((layer, name, site))
    return Attachment(tuple(sites))


def decoder_layers(llm: nn.Module) -> nn.ModuleList:
    """Return `llm.model.layers`.

    Raises:
        SettingsError: the model has another layout.
    """
    layers = getattr(getattr(llm, "model", None), "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise SettingsError(_wrong_layout(llm, "model.layers"))
    return layers


def _wrong_layout(llm: nn.Module, missing: str) -> str:
    return (
        f"backbones.llm: {type(llm).__name__} has no {missing}; the fusion needs a decoder laid "
        "out as model.layers[i] with self_attn and mlp, such as Llama, Mistral, Qwen or Gemma"
    )
