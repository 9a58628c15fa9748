"""The files in examples/batch: run for real as far as that goes without SLURM and Kubernetes.

What those would bring, `sbatch`, `srun`, `scontrol`, stands in as scripts of a few lines.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import daskgd
from daskgd.cli.fits import _job, train

ROOT = Path(__file__).parents[2]
BATCH = ROOT / "examples" / "batch"

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.posix,
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals and shells of POSIX"),
    pytest.mark.timeout(240),
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with clicks.zarr and job.toml, as the recipes expect it."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 3)).astype(np.float32)
    y = np.where(X @ [1.0, -2.0, 0.5] + rng.normal(size=3000) > 0, "yes", "no")
    daskgd.write_dataset(tmp_path / "clicks.zarr", X, y, chunk_bytes=1200)
    shutil.copy(BATCH / "job.toml", tmp_path)
    fake(tmp_path, "daskgd", f'exec {sys.executable} -m daskgd.cli "$@"')
    fake(tmp_path, "dask", f'exec {sys.executable} -m dask "$@"')
    return tmp_path


@contextmanager
def running(command: list[Any], place: Path, **more: str) -> Iterator[subprocess.Popen[str]]:
    """A command in a session of its own, of which nothing is left at the end."""
    paths = [str(place / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    env = os.environ | {"PYTHONPATH": str(ROOT), "PATH": os.pathsep.join(paths), "TMPDIR": str(place)} | more
    process = subprocess.Popen(
        list(map(str, command)),
        text=True,
        cwd=place,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        with process:
            yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def fake(place: Path, name: str, text: str) -> None:
    (place / "bin").mkdir(exist_ok=True)
    file = place / "bin" / name
    file.write_text(f"#!/usr/bin/env bash\n{text}\n")
    file.chmod(0o755)


def alone(place: Path, **settings: Any) -> Any:
    """The model that the job makes, fitted here."""
    return daskgd.LogisticRegression(C=0.1, **settings).fit(daskgd.open_dataset(place / "clicks.zarr"))


def same(model: Any, other: Any) -> bool:
    return all(np.array_equal(getattr(model, a), getattr(other, a)) for a in ("coef_", "intercept_"))


# -- a scheduler and workers --------------------------------------------------------------------


@pytest.mark.slow
def test_a_pair(place: Path) -> None:
    with running([BATCH / "pair.sh", "job.toml"], place) as process:
        stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    said = json.loads(stdout.splitlines()[-1])
    assert said["outcome"] == "converged"
    assert said["score"] > 0.7
    split = daskgd.open_dataset(place / "clicks.zarr").train_test_split(0.1)[0]
    assert same(daskgd.load_model(place / "clicks.dgd"), daskgd.LogisticRegression(C=0.1).fit(split))


def test_the_job_file_is_one_that_train_knows() -> None:
    asked = _job(BATCH / "job.toml")
    assert asked["estimator"] == "logistic"
    assert asked["set"] == {"C": 0.1, "tol": 1e-6}


# -- SLURM --------------------------------------------------------------------------------------

LONG = """
estimator = "logistic"
data = "clicks.zarr"
out = "clicks.dgd"
checkpoint = "run-clicks"
[set]
C = 0.1
solver = "gradient_descent"
tol = 0
max_iter = 30
"""


@pytest.fixture
def slurm(place: Path) -> Path:
    """What an allocation of one node with two cores brings."""
    (place / "job.toml").write_text(LONG)
    fake(place, "srun", 'exec "$@"')
    fake(place, "scontrol", f'echo "$@" >> {place}/scontrol')
    return place


def submitted(place: Path) -> Any:
    allocation = {"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "2", "SLURM_MEM_PER_NODE": "2000"}
    return running(["bash", BATCH / "slurm.sh", "job.toml"], place, **allocation)


def signalled(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """Send a signal to the script alone, as SLURM does, in the middle of the fit."""
    assert process.stderr is not None
    for line in process.stderr:
        if "iteration    5" in line:
            process.send_signal(number)
            break
    rest = process.stderr.read()
    process.wait(60)
    return rest


@pytest.mark.slow
def test_a_slurm_job_is_put_back_before_its_time_is_up_and_goes_on(slurm: Path) -> None:
    with submitted(slurm) as process:
        rest = signalled(process, signal.SIGUSR1)
    assert process.returncode == 143, rest
    assert (slurm / "scontrol").read_text() == "requeue 7\n"
    assert not (slurm / "clicks.dgd").exists()
    with submitted(slurm) as process:
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert "iteration    5" not in stderr
    assert (slurm / "scontrol").read_text() == "requeue 7\n"
    whole = alone(slurm, solver="gradient_descent", tol=0, max_iter=30)
    assert same(daskgd.load_model(slurm / "clicks.dgd"), whole)
    assert not list(slurm.glob(".scheduler-*"))


@pytest.mark.slow
def test_a_slurm_job_that_is_cancelled_stays_away(slurm: Path) -> None:
    with submitted(slurm) as process:
        rest = signalled(process, signal.SIGTERM)
    assert process.returncode == 143, rest
    assert not (slurm / "scontrol").exists()
    assert list((slurm / "run-clicks").glob("checkpoint-*"))


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, BATCH / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_script_of_a_worker_job() -> None:
    pytest.importorskip("dask_jobqueue")
    with load("slurm_jobqueue").made(scheduler_options={"dashboard_address": ":0"}) as cluster:
        script = cluster.job_script()
    for words in ("#SBATCH --cpus-per-task=16", "#SBATCH --mem=60G", "#SBATCH -t 01:00:00"):
        assert words in script.splitlines()
    assert "--nthreads 1 " in script
    assert "--nworkers 16 " in script
    assert "--lifetime 50m --lifetime-stagger 4m" in script
    assert script.index("export OMP_NUM_THREADS=1") < script.index("dask_worker")


@pytest.mark.slow
def test_a_fit_on_jobs_of_slurm(place: Path) -> None:
    """`sbatch` runs the job's script at once, here; there is no job before the fit asks for one."""
    pytest.importorskip("dask_jobqueue")
    job = 'cp "$1" "$1.kept"; bash "$1.kept" > /dev/null 2>&1 &'
    fake(place, "sbatch", f'{job} echo "Submitted batch job $!"')
    fake(place, "scancel", 'kill "$@"')
    code = (
        "import slurm_jobqueue\n"
        "if __name__ == '__main__':\n"
        "    slurm_jobqueue.main(cores=2, processes=2, memory='2 GB', most=2,\n"
        "        scheduler_options={'dashboard_address': ':0'})\n"
    )
    (place / "small.py").write_text(code)
    with running([sys.executable, "small.py"], place, PYTHONPATH=f"{BATCH}:{ROOT}") as process:
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert same(daskgd.load_model(place / "clicks.dgd"), alone(place))
    assert list((place / "run-clicks").glob("checkpoint-*"))


# -- MPI ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_ranks_of_an_mpi_job(place: Path) -> None:
    pytest.importorskip("dask_mpi")
    pytest.importorskip("mpi4py")
    mpirun = shutil.which("mpirun", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if mpirun is None:
        pytest.skip("there is no mpirun")
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    loopback = {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", "OMPI_MCA_btl": "self,sm"}
    command = [mpirun, "-n", "4", sys.executable, BATCH / "mpi.py", "clicks.zarr"]
    with running(command, place, **root, **loopback) as process:
        stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert "workers so far" in stdout
    assert same(daskgd.load_model(place / "clicks.dgd"), alone(place))


# -- Kubernetes ---------------------------------------------------------------------------------


def manifests() -> tuple[dict[str, Any], dict[str, Any]]:
    cluster, job = yaml.safe_load_all((BATCH / "kubernetes.yaml").read_text())
    return cluster, job


def valid(cluster: dict[str, Any]) -> None:
    """A DaskCluster is one that the operator's own definition allows."""
    jsonschema = pytest.importorskip("jsonschema")
    package = files(pytest.importorskip("dask_kubernetes"))
    chart = package / "operator/deployment/helm/dask-kubernetes-operator/crds/daskcluster.yaml"
    definition = yaml.safe_load(chart.read_text())
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema = strict(schema)
    schema["properties"] |= {
        "apiVersion": {"const": "kubernetes.dask.org/v1"},
        "kind": {"const": "DaskCluster"},
        "metadata": {"required": ["name"]},
    }
    jsonschema.validate(cluster, schema)


def strict(schema: Any) -> Any:
    """As the API server is: names that are not in the definition are refused."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: strict(value) for key, value in schema.items()}
    if out.get("x-kubernetes-int-or-string"):
        return {}
    open_ended = out.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in out
    if isinstance(out.get("properties"), dict) and out.get("type") == "object" and not open_ended:
        out["additionalProperties"] = False
    return out


def test_the_manifest_fits_together() -> None:
    cluster, job = manifests()
    name = cluster["metadata"]["name"]
    assert cluster["spec"]["scheduler"]["service"]["selector"]["dask.org/cluster-name"] == name
    (container,) = job["spec"]["template"]["spec"]["containers"]
    program, command, *arguments = [*container["command"], *container["args"]]
    assert (program, command) == ("daskgd", "train")
    asked = train.make_context("train", arguments).params
    assert asked["scheduler"] == f"tcp://{name}-scheduler:8786"
    assert asked["grace"] < job["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert asked["checkpoint"].startswith("s3://")
    for what in ("scheduler", "worker"):
        (pod,) = cluster["spec"][what]["spec"]["containers"]
        assert pod["args"][:2] == ["dask", what]


@pytest.mark.slow
def test_the_manifest_is_what_the_operator_allows() -> None:
    valid(manifests()[0])
    broken = manifests()[0]
    broken["spec"]["worker"]["replica"] = 3
    jsonschema = pytest.importorskip("jsonschema")
    with pytest.raises(jsonschema.ValidationError, match="replica"):
        valid(broken)


def test_the_cluster_made_in_python_is_too() -> None:
    pytest.importorskip("dask_kubernetes")
    spec = load("on_kubernetes").spec("small", 3)
    assert spec["spec"]["worker"]["replicas"] == 3
    valid(spec)


def test_every_recipe_is_tested() -> None:
    code = Path(__file__).read_text()
    for path in BATCH.iterdir():
        if path.name != "__pycache__":
            assert f'"{path.name}"' in code or f'"{path.stem}"' in code, path.name
