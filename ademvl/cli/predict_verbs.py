"""The verbs that ask trained adapters about images of one's own: by the line, or on a web page."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING

from ademvl.cli.verb import (
    Verbs,
    add_gpu_options,
    add_threads,
    add_verb,
    gpus_of,
    whole,
)
from ademvl.errors import SettingsError

if TYPE_CHECKING:
    from ademvl.prediction.answers import Answer
    from ademvl.prediction.requests import Request
    from ademvl.runs.trained_adapter import TrainedAdapter

_MINI_RUNS = Path("results/mini/runs")
_log = logging.getLogger(__name__)

_SUMMARY = "Ask a trained adapter about images or questions."
_EXIT_CODES = "The exit code is 1 where the answer to a single question names none of its choices."

_EPILOG = """\
examples:
  ademvl predict results/mini/runs/adem/seed0 --image sample:red_circle.png \\
      --question "What color is the shape?" --choices red blue green
  ademvl predict results/mini/runs/captions/seed0 --image sample:gray_triangle.png --caption
  ademvl predict results/mini/runs/adem/seed0 --jsonl requests.jsonl --explain maps > answers.jsonl
"""


def add_verbs(verbs: Verbs) -> None:
    """Add the verb `predict`."""
    verb = add_verb(verbs, "predict", _predict, _SUMMARY)
    verb.description = f"{_SUMMARY} {_EXIT_CODES}"
    verb.epilog, verb.formatter_class = _EPILOG, argparse.RawDescriptionHelpFormatter
    verb.add_argument("run", type=Path, metavar="adapter", help="run directory, or adapter folder")
    asked = verb.add_mutually_exclusive_group(required=True)
    asked.add_argument("--question", help="text of a question")
    asked.add_argument("--caption", action="store_true", help="describe the image")
    asked.add_argument("--jsonl", type=Path, help="file of requests; answers are JSON lines too")
    image_help = "picture, or sample:red_circle.png and the like; a question may do without"
    verb.add_argument("--image", help=image_help)
    verb.add_argument("--choices", nargs="+", metavar="CHOICE", help="of the question")
    verb.add_argument("--hint", help="context of the question")
    verb.add_argument("--explain", type=Path, metavar="DIR", help="write fusion maps there")
    verb.add_argument(
        "--batch-size", type=whole(1), default=16, help="requests at once (%(default)s)"
    )
    add_threads(verb)
    add_gpu_options(verb)
    demo = add_verb(verbs, "demo", _demo, "Ask trained adapters on a web page of this machine.")
    demo.add_argument(
        "runs",
        type=Path,
        nargs="*",
        metavar="adapter",
        help=f"run directories, or adapter folders (default: adem and captions in {_MINI_RUNS})",
    )
    demo.add_argument("--port", type=whole(1, 65_535), default=7860, help="(%(default)s)")
    add_threads(demo)
    add_gpu_options(demo)


def _demo(options: argparse.Namespace) -> int:
    from ademvl.demo.page import HOST, default_runs, load_gradio, serve
    from ademvl.machine.devices import set_threads
    from ademvl.prediction.adapted_model import AdaptedModel
    from ademvl.runs.trained_adapter import find_adapter

    load_gradio()
    set_threads(options.threads)
    adapters = [find_adapter(path) for path in options.runs or default_runs(_MINI_RUNS)]
    options.run = adapters[0].folder  # for which a GPU is taken
    with gpus_of(options):
        models = [AdaptedModel(trained) for trained in adapters]
        print(f"http://{HOST}:{options.port}  (Ctrl+C ends it)", flush=True)
        serve(models, port=options.port)
    return 0


def _predict(options: argparse.Namespace) -> int:
    requests = _requests(options)
    from ademvl.machine.devices import set_threads
    from ademvl.prediction.requests import check_request_images, refuse_withheld_images
    from ademvl.runs.trained_adapter import find_adapter

    trained = find_adapter(options.run)
    refuse_withheld_images(trained, requests)
    check_request_images(requests)
    set_threads(options.threads)
    from ademvl.prediction.explaining import refuse_unexplainable

    if options.explain:
        refuse_unexplainable(trained, requests)
    with gpus_of(options):
        num_unanswered = _answer(options, trained, requests)
    if options.jsonl and num_unanswered:
        asked = sum(request.kind == "choice" for request in requests)
        _log.warning("%d of %d questions with choices got no answer", num_unanswered, asked)
    return int(num_unanswered > 0 and not options.jsonl)


def _answer(
    options: argparse.Namespace, trained: "TrainedAdapter", requests: "Sequence[Request]"
) -> int:
    """Print the answers, batch by batch, and write their maps if asked to.

    Returns:
        How many texts name no choice.
    """
    from tqdm import tqdm

    from ademvl.prediction.adapted_model import AdaptedModel

    model = AdaptedModel(trained)
    maps = model.map_folder(options.explain) if options.explain else None
    show = _print_json if options.jsonl else _print_text
    num_unanswered = 0
    answers = model.ask(requests, batch_size=options.batch_size)
    disable = None if len(requests) > 1 else True
    with tqdm(total=len(requests), desc="predict", unit="request", disable=disable) as bar:
        for request, answer in zip(requests, answers, strict=True):
            with bar.external_write_mode(sys.stdout):
                show(request, answer)
            num_unanswered += answer.answer is None
            if maps:
                maps.add(request, answer)
            bar.update()
    if maps:
        maps.finish()
    return num_unanswered


def _requests(options: argparse.Namespace) -> "list[Request]":
    from ademvl.prediction.requests import parse_request, read_requests

    given = {
        key: getattr(options, key)
        for key in ("image", "question", "choices", "hint")
        if getattr(options, key) is not None
    }
    if options.jsonl:
        if given:
            raise SettingsError(f"--jsonl: its lines say what is asked; leave --{min(given)} out")
        return read_requests(options.jsonl)
    raw = given | {"caption": options.caption}
    request, findings = parse_request(raw, request_id="1", folder=Path())
    if request is None:
        raise SettingsError("; ".join(findings))
    return [request]


def _print_json(request: "Request", answer: "Answer") -> None:
    print(json.dumps(answer.to_json(), ensure_ascii=False), flush=True)


def _print_text(request: "Request", answer: "Answer") -> None:
    if answer.predicted_index is None:
        print(answer.answer)
        return
    if answer.answer is None:
        print(f"no answer: the model said {answer.text!r}, which names no choice")
    else:
        print(f"({ascii_uppercase[answer.predicted_index]}) {answer.answer}")
    lettered = zip(ascii_uppercase, answer.probabilities or (), request.choices, strict=False)
    for letter, share, choice in lettered:
        print(f"{100 * share:7.2f} %  ({letter}) {choice}")
