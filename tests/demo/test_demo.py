"""Protects `ademvl demo`: what the page shows is what the adapters answer, and it stays at home."""

import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import ademvl
from ademvl.cli import main
from ademvl.config.run import BackboneSettings
from ademvl.demo.asking import ALL_LAYERS, ask
from ademvl.errors import DataError
from ademvl.methods.adem.settings import AdemSettings
from ademvl.model.adapter_file import save_adapter
from ademvl.model.build import build_model
from ademvl.prediction.sample_images import FOLDER
from tests import tiny
from tests.conftest import PROJECT_ROOT
from tests.reporting.page.browser import PATIENCE, chromium
from tests.waiting import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Page

IMAGE = str(FOLDER / "red_circle.png")
QUESTION, CHOICES = "What color is it?", ("red", "blue")


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a run with a random adapter on the shipped backbones."""
    folder = tmp_path_factory.mktemp("demo")

    def build(name: str, **changes: object) -> Path:
        method = AdemSettings(scales=(64, 16), projection_width=8)
        backbones = BackboneSettings(llm="mini", tower="mini", tower_weights="")
        changes = {"name": name, "backbones": backbones, "method": method} | changes
        run = tiny.make_run(folder / "base", **changes)
        run_dir = tiny.write_run(folder / "runs" / name, run)
        if not (run_dir / "adapter").is_dir():
            model = build_model(run)
            model.initialize(len(name))
            save_adapter(run_dir / "adapter", model, run)
        return run_dir

    return build


def test_shown_is_what_the_adapter_answers(make: Callable[..., Path]) -> None:
    model = ademvl.load(make("adem"))
    reply = ask(model, IMAGE, "question", QUESTION, CHOICES, "")
    expected = model.answer(IMAGE, QUESTION, CHOICES)
    assert reply.answer == expected
    assert list((reply.probabilities or {}).values()) == list(expected.probabilities or ())
    assert reply.scales == ["64 patches", "16 patches"]
    assert reply.layers == [ALL_LAYERS, *(f"layer {number}" for number in range(1, 5))]
    maps = [reply.maps(scale, layer) for scale in reply.scales for layer in reply.layers[:2]]
    assert [[word for _, word in each] for each in maps] == [["color", "(answer)"]] * 4
    assert len({each[0][0].tobytes() for each in maps}) == 4


def test_python_predict_and_demo_give_the_same_answer(
    make: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, choices = make("adem"), [*CHOICES]
    requests = tmp_path / "requests.jsonl"
    asked = {"image": f"sample:{Path(IMAGE).name}", "question": QUESTION, "choices": choices}
    requests.write_text(json.dumps(asked))
    capsys.readouterr()
    assert main(["predict", str(run), "--jsonl", str(requests)]) == 0
    predicted = json.loads(capsys.readouterr().out)
    model = ademvl.load(run)
    by_python = model.answer(asked["image"], QUESTION, CHOICES)
    by_demo = ask(model, IMAGE, "question", QUESTION, CHOICES, "").answer
    assert predicted["answer"] == by_python.answer == by_demo.answer
    assert predicted["probabilities"] == pytest.approx(by_python.probabilities)
    assert by_demo.probabilities == by_python.probabilities


def test_caption_leaves_the_other_texts_out(make: Callable[..., Path]) -> None:
    model = ademvl.load(make("captions", task="coco_caption"))
    reply = ask(model, IMAGE, "caption", QUESTION, CHOICES, "hint")
    assert reply.answer == model.caption(IMAGE)
    assert reply.probabilities is None
    with pytest.raises(DataError, match="a caption needs an image"):
        ask(model, None, "caption", "", (), "")


def test_question_without_an_image_has_no_maps(make: Callable[..., Path]) -> None:
    reply = ask(ademvl.load(make("adem")), None, "question", "<b>?", ("*a*", "b"), "hint")
    assert (reply.scales, reply.layers) == ([], [ALL_LAYERS])
    assert "*a*" not in reply.text  # Markdown and HTML are shown as they stand


def test_default_runs_that_are_not_there_are_told(tmp_path: Path, monkeypatch, capsys) -> None:
    pytest.importorskip("gradio", reason="the extra `demo` is missing")
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 2
    assert "name runs, or make it: make mini" in capsys.readouterr().err


@contextmanager
def demo(*runs: Path, port: int) -> Iterator[str]:
    """Run the verb until the block ends; gives the page's address."""
    command = [sys.executable, "-m", "ademvl", "demo", *map(str, runs), "--port", str(port)]
    environ = os.environ | {"PYTHONPATH": str(PROJECT_ROOT), "no_proxy": "127.0.0.1"}
    process = subprocess.Popen(command, env=environ)
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            with urllib.request.urlopen(address):
                return True
        except OSError:
            return False

    try:
        wait_until(answers, "the demo answers", processes=[process])
        yield address
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.slow
def test_page_answers_in_a_browser(make: Callable[..., Path]) -> None:
    pytest.importorskip("gradio", reason="the extra `demo` is missing")
    runs = [make("adem"), make("captions", task="coco_caption")]
    port = free_port()
    with chromium() as browser, demo(*runs, port=port) as address:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        _ask_by_hand(page)
        for run in runs:
            answer = ademvl.load(run).answer(IMAGE, QUESTION, CHOICES)
            shown = answer.answer or "names no choice"
            page.get_by_role("heading", name=shown).first.wait_for()
        page.get_by_alt_text("what color kept").nth(1).wait_for()
        before = page.get_by_alt_text("what color kept").first.get_attribute("src")
        page.get_by_label("16 patches").first.check()
        page.wait_for_function(
            "before => document.querySelector('img[alt=\"what color kept\"]').src !== before",
            arg=before,
        )
        page.get_by_label("caption", exact=True).check()
        page.get_by_role("button", name="Ask").click()
        caption = ademvl.load(runs[1]).caption(IMAGE)
        page.get_by_text(str(caption)).first.wait_for()
        own = (address, "data:", "blob:")
        assert [url for url in asked if not url.startswith(own)] == []
        taken = subprocess.run(
            [sys.executable, "-m", "ademvl", "demo", str(runs[0]), "--port", str(port)],
            env=os.environ | {"PYTHONPATH": str(PROJECT_ROOT)},
            capture_output=True,
            text=True,
        )
        assert (taken.returncode, f"port {port}" in taken.stderr) == (2, True)


def _ask_by_hand(page: "Page") -> None:
    """Fill the page in as people do: with a file, and texts."""
    page.locator("input[type=file]").first.set_input_files(IMAGE)
    page.get_by_label("question", exact=True).nth(1).fill(QUESTION)
    page.get_by_label("choices, one a line").fill("\n".join(CHOICES))
    page.locator(".image-frame img, [data-testid=image] img").first.wait_for()
    page.get_by_role("button", name="Ask").click()
