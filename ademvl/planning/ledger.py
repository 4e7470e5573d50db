"""Books operations and kept tensors of a step, for tensors that have shapes but no values.

Such tensors are torch's fake ones: those of the device `meta`, which take no memory, in the guise
of the CPU. `meta` alone would not do: it has no autocast, so that a trained matrix in fp32 cannot
meet states in bf16 there, no generators for dropout, and no fused attention, so that the scores of
all pairs of tokens would be kept.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from torch.utils.hooks import RemovableHandle

Part = str | int
"""Part of a model to which something is booked; a decoder layer by its number."""


class Valueless:
    """Makes tensors without values; what is computed from one of them is one, too."""

    def __init__(self) -> None:
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)

    def tensor(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Make a tensor on the supposed CPU."""
        with self._mode:
            return torch.empty(shape, dtype=dtype, device="cpu")

    def take(self, *modules: nn.Module) -> None:
        """Bring modules from `meta` to the supposed CPU, in place."""
        taken: dict[int, nn.Parameter] = {}  # some stand in two modules
        for part in chain.from_iterable(module.modules() for module in modules):
            for name, parameter in part.named_parameters(recurse=False):
                if id(parameter) not in taken:
                    values = self.tensor(*parameter.shape, dtype=parameter.dtype)
                    trained = nn.Parameter(values, requires_grad=parameter.requires_grad)
                    taken[id(parameter)] = taken[id(trained)] = trained
                part._parameters[name] = taken[id(parameter)]
            for name, buffer in part.named_buffers(recurse=False):
                part._buffers[name] = self.tensor(*buffer.shape, dtype=buffer.dtype)


class Ledger(TorchDispatchMode):
    """Books, by part, what happens in its block: set `part` where another part begins.

    Operations are those that torch's FlopCounterMode counts. Each storage that autograd keeps is
    counted once, where it is kept first, unless it was made outside of all layers: then it is
    booked there, as all layers share it. What was made in the part `images` is booked once more if
    a layer keeps it: for its gradient, which is added up over all layers.

    Args:
        known: tensors that are no part of the costs, such as weights and inputs.

    Attributes:
        part: that the present operations belong to.
        flops: operations by part.
        kept_bytes: bytes by part.
    """

    def __init__(self, known: Sequence[Tensor], *, part: Part) -> None:
        super().__init__()
        self.part = part
        self.flops: Counter[Part] = Counter()
        self.kept_bytes: Counter[Part] = Counter()
        # With the storages, so that no address is used twice.
        self._makers: dict[int, tuple[Part, Any]] = {}
        self._seen: dict[int, Any] = {}
        for tensor in known:
            self._is_new(tensor)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run the operator and book its operations."""
        kwargs = dict(kwargs or {})
        result = func(*args, **kwargs)
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.flops[self.part] += count(*args, **kwargs, out_val=result)
        if not isinstance(self.part, int):
            for leaf in tree_leaves(result):
                if isinstance(leaf, Tensor):
                    storage = leaf.untyped_storage()
                    self._makers.setdefault(storage._cdata, (self.part, storage))
        return result

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Open a block in which what autograd keeps is booked."""
        with torch.autograd.graph.saved_tensors_hooks(self._keep, lambda kept: kept):
            yield

    def _keep(self, tensor: Tensor) -> Tensor:
        if self._is_new(tensor):
            storage = tensor.untyped_storage()
            maker, _ = self._makers.get(storage._cdata, (self.part, storage))
            has_gradient = maker == "images" != self.part and tensor.is_floating_point()
            self.kept_bytes[maker] += (1 + has_gradient) * storage.nbytes()
        return tensor

    def _is_new(self, tensor: Tensor) -> bool:
        storage = tensor.untyped_storage()
        if storage._cdata in self._seen:
            return False
        self._seen[storage._cdata] = storage
        return True

    @contextmanager
    def following(self, layers: Mapping[int, nn.Module]) -> Iterator[None]:
        """Open a block in which each of a decoder's layers is a part, backwards too.

        Behind them comes the part `rest`, before them `images`.

        Args:
            layers: by number, in the order in which they run.
        """
        handles: list[RemovableHandle] = []
        for place, (number, layer) in enumerate(layers.items()):
            is_first = place == 0
            handles += [
                layer.register_forward_pre_hook(
                    self._entry(number, is_first=is_first), with_kwargs=True, prepend=True
                ),
                layer.register_forward_hook(self._exit(number)),
            ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _entry(self, number: int, *, is_first: bool) -> Any:
        def enter(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            states = args[0] if args else kwargs["hidden_states"]
            self.part = number
            if is_first:
                self._switch_backwards(states, "images")

        return enter

    def _exit(self, number: int) -> Any:
        def leave(layer: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            self._switch_backwards(output[0] if isinstance(output, tuple) else output, number)
            self.part = "rest"

        return leave

    def _switch_backwards(self, states: Tensor, part: Part) -> None:
        """Begin a part when the gradient of these states is there."""

        def switch(gradient: Tensor) -> None:
            self.part = part

        if states.requires_grad:
            states.register_hook(switch)
