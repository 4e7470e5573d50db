#!/usr/bin/env bash
# transformers 5.0.0: AutoTokenizer reads a folder that holds a Llama's config.json and no tokenizer at all.
#
# No file of a tokenizer is there (no tokenizer.json, no tokenizer.model), and from_pretrained gives no
# error: it returns a CodeLlamaTokenizer of eight control tokens, to which every text is one unknown token.
# A model that is trained or evaluated with it sees the same ids for every question.
#
# Seen on 2026-11-29:
#   CodeLlamaTokenizer of 8 tokens: ['</s>', '<FILL_ME>', '<s>', '<unk>', ...]
#   two questions: [1, 0] and [1, 0]
# Exits with 0 while this is so, and with 1 when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.0.0 sentencepiece==0.2.1
cat >"$folder/show.py" <<'PYTHON'
import json
import sys
from pathlib import Path

from transformers import AutoTokenizer

folder = Path(sys.argv[1]) / "model"
folder.mkdir()
(folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 32000}))
tokenizer = AutoTokenizer.from_pretrained(folder)
first, second = (tokenizer(text)["input_ids"] for text in ("What is this?", "Name the colour."))
print(f"{type(tokenizer).__name__} of {len(tokenizer)} tokens: {sorted(tokenizer.get_vocab())}")
print(f"two questions: {first} and {second}")
raise SystemExit(not (len(tokenizer) < 20 and set(first) == set(second)))
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$folder"
