"""A Slurm cluster on this machine for tests: two nodes with one core each, and daemons that end with the tests."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "munged", "mungekey")
NODES = ("n1", "n2")
PR_SET_PDEATHSIG = 1
START_SECONDS = 60.0  # seconds that the nodes may take to come up

CONF = """\
ClusterName=shiftbench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
KillWait=5
MinJobAge=300
SlurmctldParameters=enable_configless
SchedulerParameters=sched_interval=1,batch_sched_delay=0
NodeName=n1 NodeAddr=127.0.0.1 NodeHostname={host} Port={ports[1]} CPUs=1
NodeName=n2 NodeAddr=127.0.0.1 NodeHostname={host} Port={ports[2]} CPUs=1
PartitionName=both Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """The reason why Slurm cannot be started on this machine; empty where it can."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"{', '.join(absent)} not installed (apt-get install slurmctld slurmd slurm-client munge)"
    return "" if os.geteuid() == 0 else "starting Slurm's daemons needs root"


@contextmanager
def running(folder: Path) -> Iterator[Mapping[str, str]]:
    """The environment variables with which Slurm's commands reach a cluster that runs until the block ends.

    folder: for the cluster's configuration, logs and state.
    """
    for name in ("state", "munge", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir(parents=True)
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(host=socket.gethostname().split(".")[0], folder=folder, ports=free_ports(3)))
    environment = {**os.environ, "SLURM_CONF": str(conf)}
    with ExitStack() as daemons:
        daemons.callback(kill_steps, folder)
        daemons.enter_context(munge(folder / "munge"))
        for command in (["slurmctld", "-D"], *(["slurmd", "-D", "-N", node] for node in NODES)):
            daemons.enter_context(daemon(command, environment, folder))
        wait_for_nodes(environment)
        yield environment
        subprocess.run(["scancel", "--full", "--user=root"], env=environment, timeout=30, check=False)
        time.sleep(1)


@contextmanager
def munge(folder: Path) -> Iterator[None]:
    """Run munged, which authenticates Slurm's messages, with its own key and socket."""
    subprocess.run(["mungekey", "-c", "-f", "-k", str(folder / "key")], check=True)
    # munged refuses a folder below one that others can write, such as /tmp, unless it gets --force.
    command = ["munged", "--foreground", "--force", f"--key-file={folder}/key", f"--socket={folder}/socket",
               f"--pid-file={folder}/pid", f"--log-file={folder}/log", f"--seed-file={folder}/seed"]  # fmt: skip
    with daemon(command, os.environ, folder):
        until(lambda: (folder / "socket").exists(), 20, "munged")
        yield


@contextmanager
def daemon(command: list[str], environment: Mapping[str, str], folder: Path) -> Iterator[None]:
    """Run a program until the block ends, then end it by SIGTERM, and by SIGKILL if it is still there after 15 s."""
    with open(folder / f"{'-'.join(command[0:1] + command[-1:])}.out".replace("/", "_"), "wb") as out:
        process = subprocess.Popen(
            command, env=dict(environment), stdout=out, stderr=out, start_new_session=True, preexec_fn=end_with_parent
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def end_with_parent() -> None:
    """Let the kernel end this process when the tests' process ends, also where that process is killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def kill_steps(folder: Path) -> None:
    """End the processes that slurmstepd and the jobs may have left: their environment names this cluster's folder."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if f"SLURM_CONF={folder}/".encode() in (entry / "environ").read_bytes():
                    os.kill(int(entry.name), signal.SIGKILL)


def wait_for_nodes(environment: Mapping[str, str]) -> None:
    """Return once both nodes are idle."""

    def idle() -> bool:
        answer = subprocess.run(
            ["sinfo", "-h", "-N", "-o", "%N %t"], env=dict(environment), capture_output=True, text=True
        )
        return sorted(set(answer.stdout.split("\n")) - {""}) == [f"{node} idle" for node in NODES]

    until(idle, START_SECONDS, "the nodes")


def until(condition: object, seconds: float, what: str) -> None:
    """Wait until a call returns a true value. Raises TimeoutError where it does not within `seconds`."""
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not come up in {seconds:.0f} s")
        time.sleep(0.2)


def free_ports(count: int) -> list[int]:
    """Ports of this machine on which no process listens now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
