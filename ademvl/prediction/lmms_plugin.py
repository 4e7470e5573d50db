"""Trained adapters as model `ademvl` of lmms-eval, so that they are evaluated on its tasks.

lmms-eval finds `manifest` by an entry point of this package. A task's text reaches the adapter as
an instruction of its training does, or verbatim. Answers are greedy: tasks that sample are refused.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest
from torch import Tensor

from ademvl.data.collate import collate
from ademvl.data.examples import Example
from ademvl.data.rows import RowLayout, TokenizedExample, tokenize_examples
from ademvl.data.tokenizer import IGNORED_LABEL
from ademvl.errors import SettingsError
from ademvl.evaluation.generation import generate
from ademvl.evaluation.task import tokenize_prompts
from ademvl.prediction.adapted_model import image_file
from ademvl.prediction.answering import Predictor
from ademvl.prediction.rendering import render
from ademvl.prediction.requests import Request, refuse_withheld_images
from ademvl.runs.trained_adapter import find_adapter

manifest = ModelManifest("ademvl", simple_class_path="ademvl.prediction.lmms_plugin.AdemvlModel")
"""What lmms-eval registers."""

Prompts = Literal["instruction", "verbatim"]


class AdemvlModel(lmms):  # type: ignore[misc]  # lmms-eval is untyped
    """A trained adapter, asked by lmms-eval.

    Args:
        adapter: run directory or adapter folder.
        prompts: `instruction` puts a task's text into the form of an open question or instruction
            that the adapter was trained on; `verbatim` gives it as it stands.
        batch_size: requests that are computed together; results do not depend on it.
        max_batch_size: is not used: batches are not chosen by themselves.
        device: is not used: the first visible GPU is taken, else the CPU.

    Raises:
        SettingsError, WeightsError: what is missing or does not fit.
    """

    def __init__(
        self,
        adapter: str,
        prompts: Prompts = "instruction",
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__()
        if prompts not in ("instruction", "verbatim"):
            raise SettingsError(f"prompts={prompts}: expected instruction or verbatim")
        self._trained = find_adapter(Path(adapter))
        self._predictor = Predictor(self._trained)
        self._prompts = prompts
        self._batch_size = int(batch_size)

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """Continue each text greedily, up to the first of its stop texts."""
        texts: list[str] = []
        for new_tokens, several in groupby(requests, key=self._new_tokens):
            for batch in self._batches([*several]):
                with self._examples(batch) as examples:
                    rows = tokenize_prompts(
                        self._predictor.run,
                        self._predictor.tokenizer,
                        examples,
                        max_new_tokens=new_tokens,
                    )
                    found = self._continue(rows, max_new_tokens=new_tokens)
                stops = [request.args[1].get("until") or () for request in batch]
                texts += [_cut(text, until) for text, until in zip(found, stops, strict=True)]
        return texts

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Return for each continuation its loss, and whether it is the greedy one.

        The loss is the mean over its tokens, as of the models that come with lmms-eval, whose
        choices are those of the lowest.
        """
        found: list[tuple[float, bool]] = []
        for batch in self._batches(requests):
            with self._examples(batch) as examples:
                rows = [*map(self._scored_row, batch, examples)]
                found += self._score(rows)
        return found

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        """Refuse tasks of several rounds: these adapters answer one question."""
        raise SettingsError("tasks of several rounds are not for adapters that answer one question")

    def _batches(self, requests: Sequence[Instance]) -> Iterator[Sequence[Instance]]:
        for start in range(0, len(requests), self._batch_size):
            yield requests[start : start + self._batch_size]

    def _new_tokens(self, request: Instance) -> int:
        settings = request.args[1]
        if settings.get("do_sample") or int(settings.get("num_beams") or 1) > 1:
            raise SettingsError("tasks that sample, or search by beams, are not answered here")
        return int(settings.get("max_new_tokens") or self._predictor.run.evaluation.max_new_tokens)

    def _continue(self, rows: list[TokenizedExample], *, max_new_tokens: int) -> list[str]:
        predictor = self._predictor
        batch = collate(rows, trim_after_labels=False)
        with predictor.computing():
            generated = generate(
                predictor.model,
                batch,
                predictor.visual(batch),
                max_new_tokens=max_new_tokens,
                eos_id=predictor.tokenizer.eos_id,
            )
        return [predictor.tokenizer.decode(ids) for ids in generated]

    def _scored_row(self, request: Instance, example: Example) -> TokenizedExample:
        """Return the row of a text and its continuation, whose tokens alone are scored."""
        continuation = request.args[1]
        if callable(continuation):
            continuation = continuation(self._document(request))
        run, tokenizer = self._predictor.run, self._predictor.tokenizer
        (row,) = tokenize_examples(
            tokenizer,
            [replace(example, answer=str(continuation))],
            RowLayout.of_run(run, tokenizer),
            max_seq_len=run.prompts.window,
            label_mask="exact",
        )
        labels = row.labels.copy()
        if row.ids[-1] == tokenizer.eos_id:
            labels[-1] = IGNORED_LABEL
        return replace(row, labels=labels)

    def _score(self, rows: list[TokenizedExample]) -> list[tuple[float, bool]]:
        predictor = self._predictor
        batch = collate(rows, trim_after_labels=False)
        with predictor.computing():
            logits, targets, owners = predictor.model(batch, predictor.visual(batch))
            logarithms = logits.double().log_softmax(dim=-1)  # (M, V)
            scores = logarithms.gather(1, targets.unsqueeze(1)).squeeze(1)  # (M,)
            is_greedy = logarithms.argmax(dim=-1) == targets
        return [_of_row(scores, is_greedy, owners == row) for row in range(len(rows))]

    @contextmanager
    def _examples(self, requests: Sequence[Instance]) -> Iterator[list[Example]]:
        """Give items as this adapter is asked, their images as files while the block is open."""
        with TemporaryDirectory(prefix="ademvl-") as folder:
            yield [
                self._example(request, Path(folder) / f"{number}.tiff")
                for number, request in enumerate(requests)
            ]

    def _example(self, request: Instance, file: Path) -> Example:
        context, _, doc_to_visual, *where = request.args
        images = doc_to_visual(self._document(request)) or []
        if len(images) > 1:
            raise SettingsError(f"{len(images)} images in one item; these adapters read one")
        image = Path(str(image_file(images[0], file))) if images else None
        name = "/".join(map(str, (*where, request.idx)))
        asked = Request(request_id=name, image=image, question=context)
        refuse_withheld_images(self._trained, [asked])
        example = render(asked, self._predictor.run)
        return replace(example, prompt=context) if self._prompts == "verbatim" else example

    def _document(self, request: Instance) -> Any:
        doc_id, task, split = request.args[3:6]
        return self.task_dict[task][split][doc_id]


def _of_row(scores: Tensor, is_greedy: Tensor, is_own: Tensor) -> tuple[float, bool]:
    return -float(scores[is_own].mean()), bool(is_greedy[is_own].all())


def _cut(text: str, until: str | Sequence[str]) -> str:
    """Return a text up to the first of its stop texts."""
    stops = [until] if isinstance(until, str) else [*until]
    places: Iterator[int] = (text.find(stop) for stop in stops if stop)
    return text[: min((place for place in places if place >= 0), default=len(text))].strip()
