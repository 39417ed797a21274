#!/usr/bin/env bash
# Read by shellcheck and run with a stand-in for arena-jax; never on a cluster.
# One run over several jobs, one after the other: each goes on where the one before it was stopped by its time limit.
#
#   sbatch --array=1-5%1 deploy/slurm-train.sh /shared/runs/joint joint-sst2 --data /shared/sst2 --checkpoint-every 500
#
# Jobs that come after the run's end find nothing left to do. For a GPU: sbatch --gpus=1 …
#SBATCH --job-name=arena-train
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --output=arena-train-%A_%a.log
set -euo pipefail

if [ "$#" -lt 2 ]; then
  echo "usage: sbatch --array=1-N%1 $0 RUN PRESET [OPTIONS]" >&2
  exit 2
fi
run=$1
shift
# SIGTERM reaches the program itself: it saves, and the next job of the array goes on.
if [ -f "$run/config.json" ]; then
  exec arena-jax resume "$run"
fi
exec arena-jax train "$@" --output "$run"
