"""Whether this process is one of several that train together: read from the variables that launchers set."""

import hashlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mmtune.errors import UsageError

_METADATA = "http://metadata.google.internal/computeMetadata/v1/instance/attributes/worker-network-endpoints"
_METADATA_SECONDS = 2.0
_PORTS = range(20_000, 32_000)  # below the ports that systems give out for outgoing connections

ADDRESS, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"


@dataclass(frozen=True)
class Cluster:
    """One process among several.

    Attributes:
        launcher: Who started them, for messages.
        coordinator: HOST:PORT at which process 0 listens.
        count: Number of processes, 2 or more.
        index: Of this process, from 0.
        local_devices: Which of the machine's GPUs are this process' own; None: all.
    """

    launcher: str
    coordinator: str
    count: int
    index: int
    local_devices: tuple[int, ...] | None = None

    @property
    def host(self) -> str:
        """The coordinator's host name or IP address."""
        return self.coordinator.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The coordinator's port."""
        return int(self.coordinator.rpartition(":")[2])


@dataclass(frozen=True)
class Launcher:
    """The variables in which a launcher tells a process its place.

    Attributes:
        name: What it is called.
        count, index: Variables with the number of processes and this one's; `count` is empty where none tells it.
        local_index, local_count: Variables with the same for the processes of one machine, empty where none tells it.
        job: Variable whose value is the job's own and the same in all its processes, for a port.
        pass_on: How a variable is handed to all processes.
    """

    name: str
    count: str
    index: str
    local_index: str = ""
    local_count: str = ""
    job: str = ""
    pass_on: str = "for every process"


# The first whose `index` is set is the one. What starts processes through another (mpirun by Slurm) comes first.
_TORCHRUN = Launcher("torchrun", "WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_MPI = (
    Launcher(
        "Open MPI",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
        "PMIX_NAMESPACE",
        "by mpirun -x",
    ),
    Launcher("MVAPICH", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_LOCAL_RANK"),
    Launcher("MPI (PMI)", "PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", "", "by mpiexec -genv"),
    Launcher("Flux", "FLUX_JOB_SIZE", "FLUX_TASK_RANK", "FLUX_TASK_LOCAL_ID", "", "FLUX_JOB_ID"),
    Launcher("PMIx", "", "PMIX_RANK", "", "", "PMIX_NAMESPACE"),
)
_KUBERNETES = Launcher("an indexed Kubernetes job", "", "JOB_COMPLETION_INDEX", pass_on="in the pod's `env`")


def detect_cluster(
    environment: Mapping[str, str], tpu_workers: "Callable[[], int] | None" = None, seconds: int = 300
) -> Cluster | None:
    """Returns this process' place among several, None where it runs alone.

    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID count before what a launcher says. JAX_NUM_PROCESSES=1
    means a process of its own, whatever started it.

    Args:
        environment: The environment's variables.
        tpu_workers: Gives the number of hosts of a Cloud TPU; None: its metadata is asked.
        seconds: How long JAX may look for the first host of a TPU pod.

    Raises:
        UsageError: When variables contradict each other or are no whole numbers, or when a launcher started several
            processes and does not say where the first one is.
    """
    if _whole_number(environment, COUNT) == 1:
        return None
    launcher = _launcher(environment)
    if environment.get(ADDRESS):
        return _by_hand(environment, launcher)
    if stray := next((name for name in (COUNT, INDEX) if name in environment), None):
        raise UsageError(f"{stray} is set: set {ADDRESS}=HOST:PORT of process 0 too, or {COUNT}=1 to train alone")
    # Slurm sets the variables of a step in what srun starts only, not in the batch script itself.
    slurm = "SLURM_STEP_NODELIST" in environment and (_whole_number(environment, "SLURM_STEP_NUM_TASKS") or 1) > 1
    orte = "OMPI_MCA_orte_hnp_uri" in environment and (_whole_number(environment, "OMPI_COMM_WORLD_SIZE") or 1) > 1
    if orte:
        return _found_by_jax("Open MPI", seconds)
    if launcher is _TORCHRUN:
        return _by_torchrun(environment)
    if launcher in _MPI and not _by_srun(environment, launcher) and (count := _count(environment, launcher)) != 1:
        return _on_one_machine(environment, launcher, count)
    if slurm:
        return _found_by_jax("Slurm", seconds)
    slices = (_whole_number(environment, "MEGASCALE_NUM_SLICES") or 1) > 1
    if slices or "," in environment.get("TPU_WORKER_HOSTNAMES", ""):
        return _found_by_jax("GKE", seconds)
    if "TPU_WORKER_HOSTNAMES" in environment:
        return None
    if launcher is _KUBERNETES and importlib.util.find_spec("kubernetes") is None:
        raise _unknown_place(environment, _KUBERNETES, None)
    if launcher is _KUBERNETES:
        return _found_by_jax(_KUBERNETES.name, seconds)
    if "TPU_SKIP_MDS_QUERY" in environment:
        return None
    return _found_by_jax("Cloud TPU", seconds) if (tpu_workers or _tpu_workers)() > 1 else None


def _launcher(environment: Mapping[str, str]) -> Launcher | None:
    if all(name in environment for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")):
        return _TORCHRUN
    return next((one for one in (*_MPI, _KUBERNETES) if one.index in environment), None)


def _by_srun(environment: Mapping[str, str], launcher: Launcher) -> bool:
    """Whether Slurm's srun set a library's variables, as it does with --mpi=pmi2 or pmix: they repeat its own."""
    if "SLURM_STEP_NODELIST" not in environment or launcher.name not in ("MPI (PMI)", "PMIx"):
        return False
    same = environment.get(launcher.index) == environment.get("SLURM_PROCID")
    return same and environment.get(launcher.count) in (None, environment.get("SLURM_STEP_NUM_TASKS"))


def _count(environment: Mapping[str, str], launcher: Launcher) -> int | None:
    return _whole_number(environment, launcher.count) if launcher.count else None


def _by_hand(environment: Mapping[str, str], launcher: Launcher | None) -> Cluster | None:
    """Returns the place that JAX' variables name; a launcher fills in the numbers that they leave out."""
    count, index = (_whole_number(environment, name) for name in (COUNT, INDEX))
    slurm = "SLURM_STEP_NODELIST" in environment and "SLURM_PROCID" in environment
    if count is None and launcher is not None:
        count = _count(environment, launcher)
    if count is None and slurm:
        count = _whole_number(environment, "SLURM_STEP_NUM_TASKS")
    if count == 1:
        return None
    if index is None and launcher is not None:
        index = _whole_number(environment, launcher.index)
    if index is None and slurm:
        index = _whole_number(environment, "SLURM_PROCID")
    if count is None or index is None:
        raise UsageError(f"{ADDRESS} is set: set {COUNT} and {INDEX} too")
    source = "the environment" if launcher is None else launcher.name
    local = None if launcher is None else _local_devices(environment, launcher)
    if slurm and launcher is None and (number := _whole_number(environment, "SLURM_LOCALID")) is not None:
        local = (number,)
    return _checked(source, environment[ADDRESS], count, index, local)


def _by_torchrun(environment: Mapping[str, str]) -> Cluster | None:
    count, index = (_whole_number(environment, name) for name in (_TORCHRUN.count, _TORCHRUN.index))
    assert count is not None
    assert index is not None
    if count == 1:
        return None
    port = _whole_number(environment, "MASTER_PORT") or 0
    # The launcher itself may listen at its port.
    port += environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    address = f"{environment['MASTER_ADDR']}:{_whole_number(environment, 'JAX_COORDINATOR_PORT') or port}"
    return _checked(_TORCHRUN.name, address, count, index, _local_devices(environment, _TORCHRUN))


def _on_one_machine(environment: Mapping[str, str], launcher: Launcher, count: int | None) -> Cluster:
    """Returns the place of a process whose launcher does not say where process 0 is: here, if all run here."""
    local = _whole_number(environment, launcher.local_count) if launcher.local_count else None
    index = _whole_number(environment, launcher.index)
    job = environment.get(launcher.job, "") if launcher.job else ""
    port = _whole_number(environment, "JAX_COORDINATOR_PORT")
    if count is None or index is None or local != count or not (job or port):
        raise _unknown_place(environment, launcher, count)
    address = f"127.0.0.1:{port or _PORTS[int(hashlib.sha256(job.encode()).hexdigest(), 16) % len(_PORTS)]}"
    return _checked(launcher.name, address, count, index, _local_devices(environment, launcher))


def _unknown_place(environment: Mapping[str, str], launcher: Launcher, count: int | None) -> UsageError:
    said = f"{launcher.index}={environment[launcher.index]}"
    wanted = f"{ADDRESS}=HOST:PORT of process 0" + ("" if count else f" and {COUNT}")
    several = f"started {count} processes" if count else "may have started several processes"
    return UsageError(
        f"{launcher.name} {several} ({said}) and does not say where the first one is: set {wanted} "
        f"{launcher.pass_on}, to train together, or {COUNT}=1 where each process trains on its own"
    )


def _local_devices(environment: Mapping[str, str], launcher: Launcher) -> tuple[int, ...] | None:
    """Returns the GPU of a process that shares its machine with others: as many as processes, one each."""
    local = _whole_number(environment, launcher.local_index) if launcher.local_index else None
    alone = launcher.local_count and _whole_number(environment, launcher.local_count) == 1
    return None if local is None or alone else (local,)


def _found_by_jax(launcher: str, seconds: int) -> Cluster | None:
    """Returns what JAX itself finds out of Slurm, of Open MPI up to 4, of Kubernetes jobs and of TPU pods."""
    from jax._src.clusters import ClusterEnv  # read only: there is no public way to ask

    try:
        environment = next(kind for kind in ClusterEnv._cluster_types if kind.is_env_present())
        address = environment.get_coordinator_address(timeout_secs=seconds, override_coordinator_port=None)
        count, index = environment.get_process_count(), environment.get_process_id()
        local = None if launcher in ("GKE", "Cloud TPU") else environment.get_local_process_id()
    except Exception as error:  # of any kind: variables that are missing, hosts without a name, no metadata
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(
            f"{launcher} started several processes, and JAX cannot tell where the first one is ({reason}): set "
            f"{ADDRESS}, {COUNT} and {INDEX}"
        ) from error
    return None if count == 1 else _checked(launcher, address, count, index, None if local is None else (local,))


def _checked(launcher: str, address: str, count: int, index: int, local: tuple[int, ...] | None) -> Cluster:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise UsageError(f"{ADDRESS}: expected HOST:PORT of process 0, such as 10.0.0.1:9911, got '{address}'")
    if count < 1:
        raise UsageError(f"{COUNT}: expected 1 or more, got {count}")
    if not 0 <= index < count:
        raise UsageError(f"{INDEX}: expected 0 to {count - 1}, got {index}")
    if ":" in host and not host.startswith("["):  # an IPv6 address, in which JAX wants to see where the port begins
        address = f"[{host}]:{port}"
    return Cluster(launcher, address, count, index, local)


def _whole_number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name)
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{name}: expected a whole number, got '{text}'") from None


def _tpu_workers() -> int:
    """Returns the number of hosts of the Cloud TPU that this machine is a part of; 1 where it is of none."""
    if importlib.util.find_spec("libtpu") is None:
        return 1
    import urllib.request

    request = urllib.request.Request(_METADATA, headers={"Metadata-Flavor": "Google"})
    try:
        with urllib.request.urlopen(request, timeout=_METADATA_SECONDS) as answer:
            return answer.read().decode().count(",") + 1
    except OSError:
        return 1
