#!/usr/bin/env bash
# A scheduler, workers and a job by hand: pair.sh JOB.toml [WORKERS]
#
# On several machines, start `dask worker` on each of them with the scheduler's address or its file.
set -euo pipefail

job=${1:?expected the file of a job, such as job.toml}
workers=${2:-2}
scratch=$(mktemp -d)
file=$scratch/scheduler.json
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

stop() {
    trap - EXIT
    kill "$scheduler" 2> /dev/null || true  # and with it the workers
    wait || true
    rm -rf "$scratch"
}
trap stop EXIT

dask scheduler --host 127.0.0.1 --port 0 --dashboard-address :0 --scheduler-file "$file" &
scheduler=$!
dask worker --scheduler-file "$file" --host 127.0.0.1 --nworkers "$workers" --nthreads 1 \
    --dashboard-address :0 --local-directory "$scratch" --death-timeout 60 &

daskgd train --job "$job" --scheduler-file "$file"
