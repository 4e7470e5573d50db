"""Protects the commands in the docs: the command line understands each of them."""

import re
import shlex

import pytest

from ademvl.cli import _parser
from tests.conftest import PROJECT_ROOT

PAGES = ("README.md", *sorted(f"docs/{path.name}" for path in (PROJECT_ROOT / "docs").glob("*.md")))


def _commands():
    for page in PAGES:
        text = (PROJECT_ROOT / page).read_text(encoding="utf-8")
        for block in re.findall(r"^```bash\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
            for line in block.splitlines():
                if line.startswith("ademvl ") and "--help" not in line:
                    yield pytest.param(line.partition(" > ")[0], id=line)


@pytest.mark.parametrize("command", _commands())
def test_documented_command_is_understood(command):
    arguments = shlex.split(command, comments=True)[1:]
    assert _parser().parse_args(arguments).verb == arguments[0]
