#!/usr/bin/env bash
# submit.sh NAME THREADS MEM_MB MINUTES GPUS SCRIPT: submit a job to whatever scheduler is here; print
# its number, nothing else. Queues, accounts and names of resources are a site's own: edit them here.
set -euo pipefail
name=$1 threads=$2 mem_mb=$3 minutes=$4 gpus=$5 script=$6
logs=.snakemake/cluster-logs
mkdir -p "$logs"
walltime=$(printf '%d:%02d:00' $((minutes / 60)) $((minutes % 60)))
options=()

if command -v sbatch >/dev/null; then
  # options+=(--partition=gpu --account=mygroup)
  if [ "$gpus" -gt 0 ]; then options+=(--gpus="$gpus"); fi
  sbatch --parsable --job-name="$name" --cpus-per-task="$threads" --mem="$mem_mb" \
    --time="$minutes" --output="$logs/%j.log" "${options[@]}" "$script"
elif command -v bsub >/dev/null; then                                   # LSF
  # options+=(-q gpu -P mygroup)
  if [ "$gpus" -gt 0 ]; then options+=(-gpu "num=$gpus"); fi
  answer=$(bsub -J "$name" -n "$threads" -R "span[hosts=1] rusage[mem=${mem_mb}MB]" -W "$minutes" \
    -oo "$logs/%J.log" "${options[@]}" "$script")
  answer=${answer#*<}                                                   # Job <123> is submitted ...
  echo "${answer%%>*}"
elif command -v qsub >/dev/null && [ -n "${SGE_ROOT:-}" ]; then         # SGE and its descendants
  # options+=(-q gpu.q -P mygroup)
  if [ "$gpus" -gt 0 ]; then options+=(-l "gpu=$gpus"); fi
  qsub -terse -cwd -V -j y -N "$name" -o "$logs/" -pe smp "$threads" -l "h_rt=$walltime" \
    -l "mem_free=${mem_mb}M" "${options[@]}" "$script"
elif command -v qsub >/dev/null; then                                   # PBS Pro, OpenPBS
  # options+=(-q gpu -A mygroup)
  select="1:ncpus=$threads:mem=${mem_mb}mb"
  if [ "$gpus" -gt 0 ]; then select="$select:ngpus=$gpus"; fi
  qsub -V -j oe -N "${name:0:15}" -o "$logs/" -l "select=$select" -l "walltime=$walltime" \
    "${options[@]}" "$script"
else
  echo "submit.sh: none of sbatch, bsub, qsub is here; run this where jobs are submitted" >&2
  exit 1
fi
