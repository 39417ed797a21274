#!/usr/bin/env bash
# Read by shellcheck and run with a stand-in for arena-jax; never on a cluster.
# A comparison as a Slurm array: each task runs its share of the cells into one folder that all nodes see.
#
#   sbatch --array=1-8 deploy/slurm.sh rates.toml /shared/rates
#
# With tuning, submit it twice, as final runs wait for the trials of every share:
#   sbatch --dependency=afterany:JOB --array=1-8 deploy/slurm.sh rates.toml /shared/rates
# When all are over, `arena-jax compare rates.toml --output /shared/rates` anywhere gives the verdict.
#SBATCH --job-name=arena-compare
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --time=04:00:00
#SBATCH --output=arena-compare-%A_%a.log
set -euo pipefail

if [ "$#" -ne 2 ]; then
  echo "usage: sbatch --array=1-N $0 PLAN FOLDER" >&2
  exit 2
fi
share="$((SLURM_ARRAY_TASK_ID - SLURM_ARRAY_TASK_MIN + 1))/${SLURM_ARRAY_TASK_COUNT}"
# SIGTERM at the time limit reaches the program itself: the run at work is saved, and a later start goes on with it.
exec arena-jax compare "$1" --output "$2" --cells "$share"
