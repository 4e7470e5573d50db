"""Measures what tensors take: the judge of what `ademvl/planning/memory.py` predicts.

Only memory of tensors is seen, as `torch.cuda.max_memory_allocated` does: not the interpreter,
libraries, or what an operator allocates inside itself.
"""

import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class TensorMemory(TorchDispatchMode):
    """Counts the bytes of all tensor storages that operators inside the block make.

    Works on any device, `meta` included, where nothing is allocated at all.

    Attributes:
        live_bytes: of storages that exist now.
        peak_bytes: most that existed at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live_bytes = 0
        self.peak_bytes = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Count tensors that existed before, such as weights."""
        for tensor in tensors:
            self._count(tensor)

    def reset_peak(self) -> None:
        """Forget the peak so far."""
        self.peak_bytes = self.live_bytes

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run the operator and count what it gives."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf)
        return result

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)
        known = self._known.get(key)
        if known is not None and known() is storage:
            return
        size = storage.nbytes()

        def forget(_: Any, key: int = key, size: int = size) -> None:
            self.live_bytes -= size
            self._known.pop(key, None)

        self._known[key] = weakref.ref(storage, forget)
        self.live_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)


@contextmanager
def values_unknown() -> Iterator[None]:
    """Let models of transformers run on `meta`, where tensors have shapes but no values.

    They look whether the positions of a batch belong to several packed texts; ours never do.
    """
    from transformers import masking_utils

    name = "find_packed_sequence_indices"
    original = getattr(masking_utils, name)
    setattr(masking_utils, name, lambda position_ids: None)
    try:
        yield
    finally:
        setattr(masking_utils, name, original)
