#!/usr/bin/env bash
# Run by `snakemake --sdm conda` in the new environment, from the folder of the workflow: the packages
# are there, ademvl itself comes from the source.
set -euo pipefail
source=${ADEMVL_SOURCE:-$PWD}
if ! grep -q '^name = "ademvl"' "$source/pyproject.toml" 2>/dev/null; then
  echo "$source is not the folder of ademvl; set ADEMVL_SOURCE to it" >&2
  exit 1
fi
python -m pip install --no-deps --editable "$source"
