#!/usr/bin/env bash
# snakemake 9.27.1: the more jobs have ended, the more often its scheduler looks for jobs to start.
#
# Starts are limited to 100 a second by default (--max-jobs-per-timespan 100/1s). After each look at the
# waiting jobs the scheduler asks for another look one second later, and so does each look that follows,
# while the end of a job adds a look of its own: none of these chains ends before no job waits. With 60
# jobs behind it a scheduler looks about 60 times a second for as long as a long job runs and another
# waits for its core, with 5 jobs five times. Each look asks for the sizes of all their input files,
# evaluates their params and solves for what fits; in a workflow of a hundred jobs that takes a good
# part of a core from the jobs themselves.
#
# Seen on 2026-11-30 (looks while two jobs of 8 seconds ran one after the other):
#   5 jobs before: 56 looks
#   60 jobs before: 573 looks
# Exits with 0 while the second number is more than four times the first, and with 1 when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check snakemake==9.27.1
cat >"$folder/Snakefile" <<'SNAKEFILE'
NUMBER = int(config["jobs"])
rule all:
    input: expand("short{i}", i=range(NUMBER)), expand("long{i}", i=range(2))
rule short:
    output: "short{i}"
    priority: 10
    shell: "touch {output}"
rule long:
    output: "long{i}"
    shell: "sleep 8; touch {output}"
SNAKEFILE
looks() {
  mkdir "$folder/$1"
  "$folder/venv/bin/snakemake" --snakefile "$folder/Snakefile" --directory "$folder/$1" --cores 1 \
    --config "jobs=$1" --verbose 2>&1 | grep --count "^Ready jobs: " || true
}
few=$(looks 5)
many=$(looks 60)
printf '5 jobs before: %s looks\n60 jobs before: %s looks\n' "$few" "$many"
[ "$few" -gt 0 ] && [ "$many" -gt $((4 * few)) ]
