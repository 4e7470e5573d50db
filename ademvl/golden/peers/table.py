"""Which methods' golden cases can be checked, and which method a folder's cases are of."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from ademvl.errors import DataError
from ademvl.golden.checks import Check
from ademvl.golden.files import REMEDY, GoldenSet
from ademvl.golden.peers.cases import PeerSet
from ademvl.storage.files import read_json

CaseCheck = Callable[[PeerSet], Sequence[Check]]


@dataclass(frozen=True)
class Peer:
    """A method whose recorded cases can be checked.

    Attributes:
        name: of the folder with the cases, and of the module here whose `CASES` maps cases to
            functions; its `NOT_COVERED`, if any, cases to what is not compared.
        tensor: a tensor of its case A that no other method's has.
    """

    name: str
    tensor: str

    def cases(self) -> Mapping[str, CaseCheck]:
        """Return what checks each case, by the stem of its files."""
        cases: Mapping[str, CaseCheck] = self._module().CASES
        return cases

    def not_covered(self, case: str) -> Sequence[str]:
        """Return in words what a case records and its check leaves out."""
        parts: Mapping[str, Mapping[str, Sequence[str]]]
        parts = getattr(self._module(), "NOT_COVERED", {})
        return list(parts.get(case, ()))

    def _module(self) -> ModuleType:
        return importlib.import_module(f"ademvl.golden.peers.{self.name}")


PEERS = (
    Peer("llama_adapter", tensor="param.adapter_query.weight"),
    Peer("memvp", tensor="param.adapter_emb1"),
    Peer("flamingo", tensor="param.latents"),
    Peer("vl_adapter", tensor="enc0_attn_adapter_in"),
    Peer("mm_cot", tensor="param.encoder.mha_layer.in_proj_weight"),
    Peer("lavin", tensor="param.layers.0.adapter_attn.expert_weights.weight"),
)


def find_peer(folder: Path) -> Peer | None:
    """Tell by the tensors of case A which method a folder's cases are of; None for no known one.

    Raises:
        DataError: a file of case A is damaged.
    """
    recorded: set[str] = set()
    for path in sorted(folder.glob("A_*.json")):
        content = read_json(path, remedy=REMEDY)
        recorded |= set(content.get("tensors", ())) if isinstance(content, dict) else set()
    return next((peer for peer in PEERS if peer.tensor in recorded), None)


def open_peer_set(folder: Path, models: Path | None) -> PeerSet:
    """Open a folder of a method's cases, and the reference's set with the frozen models.

    Args:
        models: folder of the reference's set; by default `golden` beside the folder of methods.

    Raises:
        DataError: the frozen models are not there.
    """
    models = models or folder.resolve().parent.parent / "golden"
    if not (models / "models" / "model.json").is_file():
        raise DataError(
            f"{folder}: these cases need the frozen models, the tokenizer and the pixels of the "
            f"reference's golden tensors, but {models} does not hold them; name their folder by "
            "--models DIR"
        )
    return PeerSet(cases=GoldenSet(folder), models=GoldenSet(models))
