"""Whether this process is one of several on several hosts, told from the environment, and how it joins the others."""

import importlib.util
import os
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from mmtune.errors import UsageError

_METADATA = "http://metadata.google.internal/computeMetadata/v1/instance/attributes/worker-network-endpoints"
_SECONDS = 2.0


def find(environment: Mapping[str, str], tpu_workers: "Callable[[], int] | None" = None) -> dict[str, Any] | None:
    """Returns the arguments of `jax.distributed.initialize`, or None where this is a process of its own.

    Args:
        environment: JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID say all themselves. What Slurm, Open
            MPI and the TPU pods of GKE set says that there are several; JAX then finds out the rest.
        tpu_workers: Gives the number of hosts of a Cloud TPU; None: its metadata is asked.

    Raises:
        UsageError: When one of JAX' variables is no whole number, or they contradict each other.
    """
    if environment.get("JAX_COORDINATOR_ADDRESS"):
        count, number = (_whole_number(environment, name) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"))
        if count == 1:
            return None
        if count is None or number is None:
            raise UsageError("JAX_COORDINATOR_ADDRESS is set: set JAX_NUM_PROCESSES and JAX_PROCESS_ID too")
        if not 0 <= number < count:
            raise UsageError(f"JAX_PROCESS_ID: expected 0 to {count - 1}, got {number}")
        address = environment["JAX_COORDINATOR_ADDRESS"]
        return {"coordinator_address": address, "num_processes": count, "process_id": number}
    # Slurm sets the variables of a step in what srun starts only, not in the batch script itself.
    slurm = "SLURM_STEP_NODELIST" in environment and (_whole_number(environment, "SLURM_STEP_NUM_TASKS") or 1) > 1
    mpi = "OMPI_MCA_orte_hnp_uri" in environment and (_whole_number(environment, "OMPI_COMM_WORLD_SIZE") or 1) > 1
    slices = (_whole_number(environment, "MEGASCALE_NUM_SLICES") or 1) > 1
    gke = "," in environment.get("TPU_WORKER_HOSTNAMES", "")
    if slurm or mpi or slices or gke:
        return {}
    if "TPU_WORKER_HOSTNAMES" in environment or "TPU_SKIP_MDS_QUERY" in environment:
        return None
    return {} if (tpu_workers or _tpu_workers)() > 1 else None


def join() -> bool:
    """Joins the other processes, before anything is computed, and returns whether there are others.

    Raises:
        UsageError: When the others are not found.
    """
    arguments = find(os.environ)
    if arguments is None:
        return False
    from mmtune.hosts import several
    from mmtune.watcher import watch

    try:
        watch(arguments)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"the other processes were not found: {reason}") from error
    return several()


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
    request = urllib.request.Request(_METADATA, headers={"Metadata-Flavor": "Google"})
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            return answer.read().decode().count(",") + 1
    except OSError:
        return 1
