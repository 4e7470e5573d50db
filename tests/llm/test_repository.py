"""Protects models by repository id: weights and tokenizer come from the hub, by its own client."""

import hashlib
import os
import subprocess
import sys

import pytest

from tests import tiny
from tests.loopback import QuietHandler, serving

pytestmark = pytest.mark.slow

COMMIT = "c" * 40
# A process of its own: huggingface_hub reads HF_ENDPOINT once, when it is imported.
SCRIPT = """
import sys
import torch
from ademvl.config.run import BackboneSettings
from ademvl.errors import AdemvlError
from ademvl.llm.loading import load_llm
from ademvl.llm.source import llm_config
from ademvl.llm.tokenizer import load_llm_tokenizer
here, there = BackboneSettings(llm=sys.argv[1]), BackboneSettings(llm=sys.argv[2])
try:
    found = load_llm(there).state_dict()
except AdemvlError as error:
    sys.exit(str(error))
assert all(torch.equal(found[name], tensor) for name, tensor in load_llm(here).state_dict().items())
assert llm_config(there).hidden_size == llm_config(here).hidden_size
text = "The answer is A."
assert load_llm_tokenizer(there).encode(text) == load_llm_tokenizer(here).encode(text)
"""


@pytest.fixture
def hub(tmp_path):
    """Serve a tiny model as org/tiny; yields the folder, the address and what was asked for."""
    folder, asked = tiny.make_llm(tmp_path / "model"), []

    class Hub(QuietHandler):
        def do_GET(self):
            asked.append(self.path)
            path = self.path.partition("?")[0]
            file = folder / path.rpartition("/")[2]
            if path.startswith("/org/tiny/resolve/") and file.is_file():
                self.reply(200, file.read_bytes())
            else:
                self.reply(404, b"", {"X-Error-Code": "EntryNotFound"})

        do_HEAD = do_GET

        def reply(self, status, content, headers=()):
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
            for name, value in dict(headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

    with serving(Hub) as url:
        yield folder, url, asked


def load(hub, cache, repository):
    folder, address, _ = hub
    environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(cache)}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), repository],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip


def test_weights_and_tokenizer_model_come_from_the_repository(hub, tmp_path):
    process = load(hub, tmp_path / "cache", "org/tiny")
    assert process.returncode == 0, process.stderr
    assert any("tokenizer.model" in path for path in hub[2])


def test_a_repository_that_is_not_there_is_named(hub, tmp_path):
    process = load(hub, tmp_path / "cache", "org/nothing")
    assert process.returncode == 1
    assert process.stderr.strip().splitlines()[0].startswith("backbones.llm: org/nothing")
