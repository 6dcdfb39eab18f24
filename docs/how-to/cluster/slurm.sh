#!/bin/bash
# A study on a Slurm cluster:   sbatch slurm.sh comparison --store /shared/store --out /shared/runs
# Every node needs the same checkout with its .venv, and the same /shared. The same line again continues an interrupted study.
#SBATCH --job-name=pixelglobal
#SBATCH --nodes=2                # CHOOSE
#SBATCH --ntasks-per-node=1      # one Ray node a machine; Ray starts the workers itself
#SBATCH --exclusive
#SBATCH --gpus-per-node=4        # CHOOSE; leave the line out on machines without GPUs
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120      # two minutes to write a checkpoint before the time is over
#SBATCH --requeue
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"
source .venv/bin/activate

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000)) # jobs that share a machine do not meet
umask 077                              # the token of this job's cluster is readable by you alone
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$PWD/.ray-token-$SLURM_JOB_ID" RAY_USAGE_STATS_ENABLED=0
python -c "import secrets; print(secrets.token_hex(32))" > "$RAY_AUTH_TOKEN_PATH"
trap 'rm -f "$RAY_AUTH_TOKEN_PATH"' EXIT

srun --kill-on-bad-exit ray symmetric-run --address "$head:$port" --min-nodes "$SLURM_JOB_NUM_NODES" -- \
    python -m experiments run "$@"
