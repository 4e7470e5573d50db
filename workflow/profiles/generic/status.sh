#!/usr/bin/env bash
# status.sh ID: print running, success or failed. A scheduler that does not answer for a while counts
# as running; a job that it has forgotten counts as failed.
set -uo pipefail
id=$1

slurm() {
  local state
  state=$(squeue --noheader --states=all --format=%T --jobs="$id" 2>&1) || case $state in
    *"Invalid job id"*) state=$(sacct --noheader --allocations --format=State --jobs="$id" 2>&1 | head -n 1) ;;
    *) state=RUNNING ;;
  esac
  case $state in
    COMPLETED*) echo success ;;
    PENDING* | CONFIGURING* | RUNNING* | COMPLETING* | SUSPENDED* | REQUEUED* | SIGNALING* | STAGE_OUT* | RESIZING*)
      echo running ;;
    *) echo failed ;;
  esac
}

lsf() {
  local state
  state=$(bjobs -a -noheader -o stat "$id" 2>/dev/null) || state=RUN
  case $state in
    DONE) echo success ;;
    EXIT | ZOMBI | '') echo failed ;;
    *) echo running ;;
  esac
}

sge() {
  local record
  if qstat -j "$id" >/dev/null 2>&1; then
    echo running
  elif record=$(qacct -j "$id" 2>/dev/null); then
    if grep -Eq '^exit_status +0 *$' <<<"$record" && grep -Eq '^failed +0 *$' <<<"$record"; then
      echo success
    else
      echo failed
    fi
  else
    echo running # between the two: it has ended, and its record is still to come
  fi
}

pbs() {
  local record
  record=$(qstat -x -f "$id" 2>/dev/null) || { echo running; return; }
  if ! grep -q 'job_state = [CF]' <<<"$record"; then
    echo running
  elif grep -Eiq 'exit_status = 0 *$' <<<"$record"; then
    echo success
  else
    echo failed
  fi
}

if command -v sbatch >/dev/null; then slurm
elif command -v bsub >/dev/null; then lsf
elif [ -n "${SGE_ROOT:-}" ]; then sge
else pbs; fi
