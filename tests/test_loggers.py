"""Protects the names of loggers: a line of the log names the module that wrote it."""

import ast
from pathlib import Path

import ademvl

ROOT = Path(ademvl.__file__).parent


def test_modules_log_under_their_own_name_as_one_variable():
    findings = []
    for path in sorted(ROOT.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        uses = sum(isinstance(node, ast.Name) and node.id == "_log" for node in ast.walk(tree))
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Assign) and "getLogger" in ast.unparse(node.value)):
                continue
            line = ast.unparse(node)
            if line != "_log = logging.getLogger(__name__)":
                findings.append(f"{path.relative_to(ROOT)}:{node.lineno}: {line}")
            elif uses == 1:
                findings.append(f"{path.relative_to(ROOT)}:{node.lineno}: never used")
    assert findings == []
