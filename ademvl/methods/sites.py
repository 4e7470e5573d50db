"""Where a method meets a decoder of transformers: forward hooks, taken off without a trace.

Every decoder layer computes `h = h + self_attn(norm(h))` and `h = h + mlp(norm(h))`. Hooks read or
change the states that go into a layer, what its attention and its MLP are given, and what of them
is added to h; the module tree and its parameters' names stay as they are. What hooks do stands in a
`Pass`, which is set for the duration of a forward pass, or of a whole generation.

Families differ in their norms (docs/backbones.md has a table). Where the branch itself is
normalised before it is added, as in Gemma 3 and OLMo 2 and 3, `mhsa_out` and `mlp_out` lie
behind that norm. Where there is none in front of a branch (OLMo 2 and 3), `mhsa_in` and `mlp_in`
are h itself. In parallel blocks (Phi 1 to 2) both branches are given the same states, so that what
is added at `mhsa_out` does not reach the MLP.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal
from weakref import WeakSet

from torch import Tensor, nn

from ademvl.errors import SettingsError

_CLAIMED: WeakSet[nn.Module] = WeakSet()
"""Frozen models that have a method attached: a second one would add to the first silently."""

Position = Literal["layer_in", "mhsa_in", "mhsa_out", "mlp_in", "mlp_out"]
"""Where in a decoder layer: `layer_in` is inside of what checkpointing recomputes, `*_in` is what
attention or MLP are given, `*_out` what of them is added to the residual stream."""

_MODULES: Mapping[Position, tuple[str, bool]] = {
    "layer_in": ("", True),
    "mhsa_in": ("self_attn", True),
    "mhsa_out": ("self_attn", False),
    "mlp_in": ("mlp", True),
    "mlp_out": ("mlp", False),
}
"""Submodule of a layer that each position belongs to, and whether it is its input."""
_OUTPUT_NORMS: Sequence[Mapping[Position, str]] = (
    # Gemma 3, OLMo 2 and 3; in others `post_attention_layernorm` is in front of the MLP.
    {"mhsa_out": "post_attention_layernorm", "mlp_out": "post_feedforward_layernorm"},
    {"mhsa_out": "post_self_attn_layernorm", "mlp_out": "post_mlp_layernorm"},  # GLM-4
)
"""Norms behind attention and MLP, of layers that have both of a pair."""


class Pass:
    """What a batch's images are to the language model, for one forward pass or a generation.

    This one changes nothing; methods override what they need.

    Attributes:
        before_begin: vectors before the begin token, (B, P, d), which no other place attends to;
            None without any.
        with_image: vectors behind "Image: " of the rows with an image, (B_img, S, d); None without.
        counts_begin_later: whether positions count the places before the begin token in the calls
            behind the first of a generation, too, as they do there. False repeats positions.
    """

    before_begin: Tensor | None = None
    with_image: Tensor | None = None
    counts_begin_later: bool = True

    def visit(self, position: Position, layer: int, states: Tensor) -> Tensor:
        """Read or change the states at a position of a layer, counted from 0.

        Args:
            position: one of the method's `places`.
            layer: counted from 0.
            states: (B, T, d), in the dtype in which the language model computes; with places before
                the begin token T counts these, too, and with a cache only what is new.

        Returns:
            Same shape and dtype.
        """
        return states

    def attend(self, layer: int, attention: nn.Module, query: Tensor) -> Tensor | None:
        """Return what is added to the heads' outputs of a layer.

        Args:
            layer: counted from 0.
            attention: the layer's attention, for its frozen projections.
            query: (B, H, T, h), after rotary embedding.

        Returns:
            (B, T, H, h), any float dtype, or None to add nothing.
        """
        return None

    def penalty(self, lengths: Tensor) -> Tensor | None:
        """Return what is added to the loss of each row in training, (B,); None for nothing.

        The mean over the rows of an optimiser step counts. It is asked for behind the forward pass,
        and must not depend on which rows a batch holds.

        Args:
            lengths: (B,), places of each row up to its last label.
        """
        return None

    def repeated(self, times: int) -> "Pass":
        """Return the pass for `times` rows side by side in place of each, as beams are.

        `with_image` stays as it is: it is read once, before rows are repeated.
        """
        return self

    def restarted(self) -> "Pass":
        """Return a pass of the same images that has read nothing yet, for a recomputation."""
        return self


class Attachment:
    """A method's hooks on a language model and a tower, and the pass that they find.

    Calls of the language model outside of an `active` block are refused wherever a hook would need
    one.
    """

    def __init__(self) -> None:
        self._current: Pass | None = None
        self._undo: list[Callable[[], None]] = []

    @property
    def current(self) -> Pass:
        """The pass of the block that is open.

        Raises:
            RuntimeError: none is.
        """
        if self._current is None:
            raise RuntimeError(
                "the language model has a method attached and was called outside of an opened "
                "block; call it through VisionLanguageModel, or detach first. Gradient "
                "checkpointing must be enabled by VisionLanguageModel.enable_checkpointing"
            )
        return self._current

    @contextmanager
    def active(self, opened: Pass) -> Iterator[None]:
        """Open a block in which hooks find this pass; blocks may be nested."""
        previous, self._current = self._current, opened
        try:
            yield
        finally:
            self._current = previous

    def checkpoint_contexts(
        self,
    ) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Return the contexts of a checkpointed layer's forward pass and of its recomputation.

        To be given as `context_fn` to `torch.utils.checkpoint`: the layer is recomputed in the
        backward pass, when the forward pass's block is over, and finds its images again.
        """
        return nullcontext(), self.active(self.current.restarted())

    def claim(self, model: nn.Module, name: str) -> None:
        """Make sure that a frozen model has no other method attached, until this one is detached.

        Raises:
            SettingsError: it has.
        """
        if model in _CLAIMED:
            raise SettingsError(f"{name}: a method is attached already")
        _CLAIMED.add(model)
        self.on_detach(lambda: _CLAIMED.discard(model))

    def on_detach(self, undo: Callable[[], None]) -> None:
        """Let `detach` call `undo`; the last one registered comes first."""
        self._undo.append(undo)

    def detach(self) -> None:
        """Take everything off: the frozen models are bit-identical to what they were."""
        while self._undo:
            self._undo.pop()()


class _Site:
    """A hook at one position of one layer, on the input or the output of a module."""

    def __init__(self, attachment: Attachment, position: Position, layer: int) -> None:
        self._attachment = attachment
        self._position = position
        self._layer = layer

    def _visit(self, states: Tensor) -> Tensor:
        return self._attachment.current.visit(self._position, self._layer, states)


class _InputSite(_Site):
    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Change nothing but the states, wherever the layer passes them."""
        if args:
            return (self._visit(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": self._visit(kwargs["hidden_states"])}


class _OutputSite(_Site):
    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Change nothing but the states, which come alone or first."""
        if isinstance(output, tuple):
            return (self._visit(output[0]), *output[1:])
        return self._visit(output)


def attach_sites(llm: nn.Module, attachment: Attachment, visited: Mapping[Position, range]) -> None:
    """Hook an attachment into a language model's layers.

    Args:
        llm: any model of transformers whose layers are `llm.model.layers[i]` with `mlp` and
            `self_attn`: Llama, Mistral, Qwen, Gemma, Phi, SmolLM, OLMo and most others.
        attachment: gets the hooks, and finds the passes.
        visited: layers by position, as `Method.places` returns them.

    Raises:
        SettingsError: the model has another layout.
    """
    layers = decoder_layers(llm)
    sites = [
        (_module_at(llm, layers, number, position), position, number)
        for position, numbers in visited.items()
        for number in numbers
    ]
    for module, position, number in sites:
        _, is_input = _MODULES[position]
        if is_input:
            handle = module.register_forward_pre_hook(
                _InputSite(attachment, position, number), with_kwargs=True
            )
        else:
            handle = module.register_forward_hook(_OutputSite(attachment, position, number))
        attachment.on_detach(handle.remove)


def _module_at(llm: nn.Module, layers: nn.ModuleList, number: int, position: Position) -> nn.Module:
    name, _ = _MODULES[position]
    if not name:
        return layers[number]
    for norms in _OUTPUT_NORMS:
        if all(hasattr(layers[number], norm) for norm in norms.values()):
            name = norms.get(position, name)
    module = getattr(layers[number], name, None)
    if not isinstance(module, nn.Module):
        raise SettingsError(_wrong_layout(llm, f"model.layers.{number}.{name}"))
    return module


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
        f"backbones.llm: {type(llm).__name__} has no {missing}; methods need a decoder laid "
        "out as model.layers[i] with self_attn and mlp: Llama, Mistral, Qwen, Gemma, Phi, SmolLM "
        "or OLMo, for one"
    )
