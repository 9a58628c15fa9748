#!/usr/bin/env bash
# One allocation holds the scheduler, the workers and the job: sbatch slurm.sh job.toml
#
# Two minutes before the time is up SLURM sends SIGUSR1 to this script. The job then ends its sweep, keeps it,
# and leaves with 143; it is put back into the queue and goes on from there. So it is where the cluster was
# lost (75). `scancel` sends SIGTERM, which ends the job the same way, but for good.
#SBATCH --job-name=clicks
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=64G
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail

job=${1:?expected the file of a job, such as job.toml}
file=$PWD/.scheduler-$SLURM_JOB_ID.json   # the folder of sbatch, which all nodes see
rm -f "$file"                             # that of an earlier attempt, which has the same number
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
per_worker=$((SLURM_MEM_PER_NODE * 9 / 10 / SLURM_CPUS_PER_TASK))

stop() {
    trap - EXIT
    kill "$scheduler" 2> /dev/null  # and with it the workers
    wait
    rm -f "$file"
}
trap stop EXIT

# With several networks, choose one for both: --interface ib0
dask scheduler --port 0 --dashboard-address :0 --scheduler-file "$file" &
scheduler=$!
srun dask worker --scheduler-file "$file" --nworkers "$SLURM_CPUS_PER_TASK" --nthreads 1 \
    --memory-limit "${per_worker}MiB" --dashboard-address :0 --local-directory "${TMPDIR:-/tmp}" \
    --death-timeout 120 &

daskgd train --job "$job" --scheduler-file "$file" --wait 600 --grace 90 &
train=$!

again=0
trap 'heard=1 again=1; kill -USR1 "$train"' USR1
trap 'heard=1; kill -TERM "$train"' TERM
while heard=0; do
    wait "$train"
    code=$?
    [ "$heard" = 1 ] || break  # a signal ends `wait`, not the job
done

case "$again $code" in
    "1 143" | "1 138" | *" 75")  # 138: the signal came while it still waited for the cluster
        echo "exit code $code: back into the queue" >&2
        scontrol requeue "$SLURM_JOB_ID"
        ;;
esac
exit "$code"
