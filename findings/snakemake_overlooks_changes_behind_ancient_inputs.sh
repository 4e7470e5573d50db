#!/usr/bin/env bash
# Snakemake 9.27.1: a job whose params changed is not run again while a job is, whose output it takes as `ancient`.
#
# Seen with Python 3.11. Rule `second` reads the output of `first` as ancient(...), and each has a parameter.
# When only the parameter of `second` changes, Snakemake plans `second`, as told by rerun trigger params. When
# both change in one edit of the configuration, it plans `first` alone: jobs behind one that runs are not
# looked at for reasons of their own, because they are expected to follow from it; but through an ancient input
# nothing follows. The old result stays without a word, and the same command once more plans it.
#
# What hurts: settings that many rules read are edited at once. The way out is a file that holds what the job
# depends on, as an input that is not ancient: what makes it anew is then handed on.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet 'snakemake==9.27.1'

cat > Snakefile <<'SNAKEFILE'
rule second:
    input:
        ancient("first.txt"),
    output:
        "second.txt",
    params:
        value=config["second"],
    shell:
        "echo {params.value} > {output}"


rule first:
    output:
        "first.txt",
    params:
        value=config["first"],
    shell:
        "echo {params.value} > {output}"
SNAKEFILE

plan() {
    venv/bin/snakemake --cores 1 --dry-run --config "$@" 2>&1 | sed -n 's/^\(first\|second\) .*/\1/p' | sort -u | tr '\n' ' '
}

venv/bin/snakemake --cores 1 --quiet all --config first=1 second=1 > log.txt 2>&1 || { cat log.txt; exit 1; }
only_second=$(plan first=1 second=2)
both=$(plan first=2 second=2)
echo "parameter of second changed: planned ${only_second:-nothing}"
echo "parameters of both changed: planned ${both:-nothing}"
# Output seen:
#   parameter of second changed: planned second
#   parameters of both changed: planned first
[ "$only_second" = "second " ] && [ "$both" = "first " ]
