"""Finds requests that are unlike all that an adapter was trained on; their answers mean little.

What it was trained on stands in its adapter.json, if it was trained here and not long ago.
"""

import logging
from collections.abc import Mapping, Sequence

from ademvl.config.run import RunSettings
from ademvl.config.task_facts import RequestKind
from ademvl.config.tasks import facts_of
from ademvl.data.prompt_forms import PromptForm, TrainedForms
from ademvl.data.rows import RowLayout, TokenizedExample, tokenize_examples
from ademvl.data.tokenizer import Tokenizer
from ademvl.errors import WeightsError, list_findings
from ademvl.prediction.rendering import render_as_trained
from ademvl.prediction.requests import Request
from ademvl.runs.adapter_folder import DESCRIPTION_FILE, REMEDY, TRAINED_FORMS
from ademvl.runs.trained_adapter import TrainedAdapter
from ademvl.storage.files import read_json

_log = logging.getLogger(__name__)

_ASKED: Mapping[RequestKind, str] = {
    "caption": "a caption",
    "choice": "one of several choices",
    "open": "an answer",
}
_UNLIMITED = 1_000_000  # tokens: the length that is told is that of the whole prompt
_HEADLINE = "requests are unlike all that the adapter was trained on"
_REMEDY = "Answers to these mean little. docs/predict.md says how to ask, and what is compared."


def unfamiliar_requests(
    trained: TrainedAdapter, tokenizer: Tokenizer, requests: Sequence[Request]
) -> dict[str, list[str]]:
    """Return for each request, by id, what is unlike the training; an empty list for most.

    Raises:
        WeightsError: what adapter.json says of the training is malformed.
    """
    run, forms = trained.run, _read_forms(trained)
    learned = facts_of(run.task).learned
    found: dict[str, list[str]] = {}
    for request in requests:
        if request.kind not in learned:
            asked = _ASKED[request.kind]
            found[request.request_id] = [f"asks for {asked}; it was trained for {run.task}"]
        else:
            row = _row_as_trained(request, run, tokenizer)
            form = PromptForm.of(row)
            found[request.request_id] = forms.unlike(form, num_tokens=len(row.ids))
    return found


def tell_unfamiliar(found: Mapping[str, Sequence[str]]) -> None:
    """Log one warning about all unfamiliar requests, none where there are none."""
    findings = [f"request {key}: {what}" for key, several in found.items() for what in several]
    if findings:
        _log.warning("%s", list_findings(_HEADLINE, findings, _REMEDY))


def _read_forms(trained: TrainedAdapter) -> TrainedForms:
    path = trained.folder / DESCRIPTION_FILE
    try:
        return TrainedForms.from_json(read_json(path, remedy=REMEDY).get(TRAINED_FORMS, []))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: {TRAINED_FORMS} is malformed ({error!r}). {REMEDY}") from error


def _row_as_trained(request: Request, run: RunSettings, tokenizer: Tokenizer) -> TokenizedExample:
    (row,) = tokenize_examples(
        tokenizer,
        [render_as_trained(request, run)],
        RowLayout.of_run(run, tokenizer),
        max_seq_len=_UNLIMITED,
    )
    return row
