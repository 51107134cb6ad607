"""Who started a process, and whether it has others to join: told from the variables that launchers set."""

import pytest

from mmtune.distributed.cluster_env import Cluster, detect_cluster
from mmtune.errors import UsageError

ALONE = {
    "nothing": {},
    "one-of-one": {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"},
    "batch-script": {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_PROCID": "0"},
    "one-task": {"SLURM_STEP_NODELIST": "n1", "SLURM_STEP_NUM_TASKS": "1"},
    "one-task-with-pmix": {
        "SLURM_STEP_NODELIST": "n1",
        "SLURM_STEP_NUM_TASKS": "1",
        "SLURM_PROCID": "0",
        "PMIX_RANK": "0",
    },
    "one-tpu-host": {"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"},
    "mpirun-of-one": {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0", "PMIX_RANK": "0"},
    "torchrun-of-one": {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"},
    "a-pod-on-its-own": {"JOB_COMPLETION_INDEX": "3", "JAX_NUM_PROCESSES": "1"},
    "only-a-rank": {"RANK": "1", "LOCAL_RANK": "1"},
}

SRUN = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "n[1-8]",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_NTASKS": "8",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
}
PMI = {"PMI_SIZE": "8", "PMI_RANK": "3"}
MPIRUN = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "2"}
HERE = {"OMPI_COMM_WORLD_LOCAL_SIZE": "4", "PMIX_NAMESPACE": "prterun-n1-4711@1"}
TORCHRUN = {"RANK": "5", "WORLD_SIZE": "16", "LOCAL_RANK": "1", "MASTER_ADDR": "n1", "MASTER_PORT": "29500"}
ADDRESS = {"JAX_COORDINATOR_ADDRESS": "n1:9911"}

# By the variables as the launchers' own documents list them; ports are JAX' own arithmetic for Slurm and Open MPI.
SEVERAL = {
    "srun": (SRUN, Cluster("Slurm", "n1:61447", 8, 3, (1,))),
    "srun --mpi=pmi2": (SRUN | PMI, Cluster("Slurm", "n1:61447", 8, 3, (1,))),
    "srun --mpi=pmix": (SRUN | {"PMIX_RANK": "3"}, Cluster("Slurm", "n1:61447", 8, 3, (1,))),
    "mpirun of Open MPI 4": (
        MPIRUN | {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911"},
        Cluster("Open MPI", "10.96.0.1:62624", 4, 2, (2,)),
    ),
    "mpirun with an address": (MPIRUN | ADDRESS, Cluster("Open MPI", "n1:9911", 4, 2, (2,))),
    "mpiexec with an address": (PMI | ADDRESS, Cluster("MPI (PMI)", "n1:9911", 8, 3)),
    "torchrun": (TORCHRUN, Cluster("torchrun", "n1:29500", 16, 5, (1,))),
    "torchrun whose agent has the port": (
        TORCHRUN | {"TORCHELASTIC_USE_AGENT_STORE": "True"},
        Cluster("torchrun", "n1:29501", 16, 5, (1,)),
    ),
    "a pod with an address": (
        ADDRESS | {"JAX_NUM_PROCESSES": "4", "JOB_COMPLETION_INDEX": "3"},
        Cluster("an indexed Kubernetes job", "n1:9911", 4, 3),
    ),
    "srun with an address": (SRUN | ADDRESS, Cluster("the environment", "n1:9911", 8, 3, (1,))),
    "by hand": (
        ADDRESS | {"JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"},
        Cluster("the environment", "n1:9911", 4, 3),
    ),
    "by hand, IPv6": (
        {"JAX_COORDINATOR_ADDRESS": "[fd00::1]:9911", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"},
        Cluster("the environment", "[fd00::1]:9911", 4, 3),
    ),
}

UNKNOWN_PLACE = {
    "Open MPI 5": (MPIRUN | {"PMIX_RANK": "2"}, r"Open MPI started 4 processes \(OMPI_COMM_WORLD_RANK=2\).*mpirun -x"),
    "MPICH": (PMI, r"MPI \(PMI\) started 8 processes \(PMI_RANK=3\)"),
    "MPICH on one machine": (  # as its mpiexec sets them, the descriptor another in each process
        PMI | {"MPI_LOCALNRANKS": "8", "MPI_LOCALRANKID": "3", "PMI_FD": "6"},
        r"MPI \(PMI\) started 8 processes .*mpiexec -genv",
    ),
    "MVAPICH": ({"MV2_COMM_WORLD_SIZE": "2", "MV2_COMM_WORLD_RANK": "0"}, "MVAPICH started 2 processes"),
    "Flux": ({"FLUX_JOB_SIZE": "2", "FLUX_TASK_RANK": "0"}, "Flux started 2 processes"),
    "PMIx": ({"PMIX_RANK": "1"}, r"PMIx may have started several processes.* and JAX_NUM_PROCESSES"),
    "Kubernetes": (
        {"JOB_COMPLETION_INDEX": "1", "TPU_SKIP_MDS_QUERY": "1"},
        "an indexed Kubernetes job may have started several",
    ),
    "Slurm without hosts": (SRUN | {"SLURM_JOB_ID": ""}, "Slurm started several processes, and JAX cannot tell"),
}


@pytest.mark.parametrize("name", ALONE)
def test_a_plain_run_joins_nobody(name):
    assert detect_cluster(ALONE[name], lambda: 1) is None


@pytest.fixture
def variables(monkeypatch):
    """Sets what JAX reads itself."""

    def put(environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.mark.parametrize("name", SEVERAL)
def test_launchers(name, variables):
    environment, expected = SEVERAL[name]
    variables(environment)
    assert detect_cluster(environment, lambda: 1) == expected


def test_one_machine_needs_no_address():
    found = detect_cluster(MPIRUN | HERE)
    assert found is not None
    assert found.host == "127.0.0.1"
    assert (found.count, found.index, found.local_devices) == (4, 2, (2,))
    other = detect_cluster(MPIRUN | HERE | {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_LOCAL_RANK": "0"})
    assert other is not None
    assert other.port == found.port
    job = detect_cluster(MPIRUN | HERE | {"PMIX_NAMESPACE": "prterun-n1-4712@1"})
    assert job is not None
    assert job.port != found.port


@pytest.mark.parametrize("name", UNKNOWN_PLACE)
def test_who_does_not_say_where_the_first_is_is_refused_by_name(name, variables):
    environment, said = UNKNOWN_PLACE[name]
    variables(environment)
    with pytest.raises(UsageError, match=said) as caught:
        detect_cluster(environment, lambda: 1)
    assert "JAX_COORDINATOR_ADDRESS" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"JAX_PROCESS_ID": "4"}, "JAX_PROCESS_ID: expected 0 to 3, got 4"),
        ({"JAX_NUM_PROCESSES": "many"}, "JAX_NUM_PROCESSES: expected a whole number, got 'many'"),
        ({"JAX_NUM_PROCESSES": "0"}, "JAX_NUM_PROCESSES: expected 1 or more, got 0"),
        ({"JAX_COORDINATOR_ADDRESS": "host"}, "expected HOST:PORT of process 0, such as 10.0.0.1:9911, got 'host'"),
        ({"JAX_COORDINATOR_ADDRESS": "host:99999"}, "expected HOST:PORT"),
        ({"JAX_PROCESS_ID": None}, "set JAX_NUM_PROCESSES and JAX_PROCESS_ID too"),
        ({"JAX_COORDINATOR_ADDRESS": None}, "JAX_NUM_PROCESSES is set: set JAX_COORDINATOR_ADDRESS=HOST:PORT"),
        ({"JAX_COORDINATOR_ADDRESS": None, "JAX_NUM_PROCESSES": None}, "JAX_PROCESS_ID is set: set JAX_COORD"),
    ],
)
def test_variables_that_contradict_each_other(change, said):
    given = {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"} | change
    with pytest.raises(UsageError, match=said):
        detect_cluster({key: value for key, value in given.items() if value is not None}, lambda: 1)


def test_tpu_pods(monkeypatch, variables):
    environment = {"TPU_WORKER_HOSTNAMES": "127.0.0.1,127.0.0.2", "TPU_WORKER_ID": "1", "TPU_SKIP_MDS_QUERY": "1"}
    environment |= {"MEGASCALE_COORDINATOR_ADDRESS": "", "MEGASCALE_NUM_SLICES": "1", "MEGASCALE_SLICE_ID": "0"}
    variables(environment)
    monkeypatch.setattr("jax._src.clusters.cloud_tpu_cluster.running_in_cloud_tpu_vm", True)
    found = detect_cluster(environment, lambda: 1)
    assert found is not None
    assert (found.launcher, found.host, found.count, found.index, found.local_devices) == (
        "GKE",
        "127.0.0.1",
        2,
        1,
        None,
    )


@pytest.mark.parametrize("address", ["::1:9911", "[::1]:9911"])
def test_an_ipv6_address_is_put_into_brackets(address):
    """JAX cannot tell its last part from a port otherwise."""
    found = detect_cluster({"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"})
    assert found is not None
    assert (found.coordinator, found.host, found.port) == ("[::1]:9911", "::1", 9911)
