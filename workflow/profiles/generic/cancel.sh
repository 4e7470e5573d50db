#!/usr/bin/env bash
# cancel.sh ID...: cancel jobs.
set -euo pipefail
if command -v scancel >/dev/null; then scancel "$@"
elif command -v bkill >/dev/null; then bkill "$@"
else qdel "$@"; fi
