"""The methods whose authors' adapters can be read, and which of them a checkpoint is of."""

from collections.abc import Iterable, Mapping

from ademvl.released.adem_form import AdemForm
from ademvl.released.form import ReleasedForm
from ademvl.released.lavin_form import LavinForm
from ademvl.released.memvp_form import MemvpForm
from ademvl.released.reference_names import bare_name

FORMS: Mapping[str, ReleasedForm] = {
    form.method: form for form in (AdemForm(), MemvpForm(), LavinForm())
}
"""By the names in `RELEASED_METHODS`."""


def form_of(names: Iterable[str]) -> ReleasedForm:
    """Tell by the names of its tensors whose a checkpoint is; ADEM-VL's where nothing else tells.

    MemVP's names are ADEM-VL's, and a table of modalities.
    """
    bare = [bare_name(name) for name in names]
    if any(".adapter_attn." in name for name in bare):
        return FORMS["lavin"]
    return FORMS["memvp" if "adapter_modality_embedding.weight" in bare else "adem"]
