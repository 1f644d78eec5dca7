"""A real Slurm of one node on the loopback address, as one process group each for its daemons.

No systemd, no munge and no accounting: Debian's `slurm-wlm`, run by the superuser.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

COMMANDS = ("slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "srun")
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])  # where Debian puts the daemons
CONF = """\
ClusterName=bench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/none
CredType=cred/none
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
JobRequeue=1
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=toy Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
"""


def why_not() -> str:
    """Say why no Slurm can be started here; empty if one can."""
    lacking = [name for name in COMMANDS if shutil.which(name, path=PATH) is None]
    if lacking:
        return f"no {', '.join(lacking)} here; Debian's package slurm-wlm has them"
    if os.getuid() != 0:
        return "only the superuser can start slurmctld and slurmd like this"
    return ""


@dataclass(frozen=True)
class Cluster:
    """A running Slurm and the environment of its commands."""

    folder: Path
    environment: dict[str, str]

    def call(self, *command: str) -> str:
        """Run a command of Slurm and return what it prints."""
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=True, timeout=60
        ).stdout

    def states(self) -> dict[str, str]:
        """Return the states of the jobs in the queue by number, array tasks by themselves."""
        lines = self.call("squeue", "--noheader", "--array", "--format=%i %T").splitlines()
        return {line.split()[0]: line.split()[1] for line in lines}


@contextmanager
def slurm_cluster(folder: Path) -> Iterator[Cluster]:
    """Start a Slurm below a folder and end it, with all its jobs, at the end."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    host = socket.gethostname().partition(".")[0]
    conf = folder / "slurm.conf"
    settings = {"host": host, "folder": folder, "ports": free_ports(2), "cpus": os.cpu_count()}
    conf.write_text(CONF.format(**settings))
    environment = {**os.environ, "SLURM_CONF": str(conf), "PATH": PATH}
    cluster = Cluster(folder, environment)
    daemons = []
    try:
        for command in (["slurmctld", "-D"], ["slurmd", "-D", "-N", host]):
            log = (folder / f"{command[0]}.out").open("w")
            daemons.append(
                subprocess.Popen(
                    command, env=environment, stdout=log, stderr=log, start_new_session=True
                )
            )
            log.close()
        wait_for_node(cluster)
        yield cluster
    finally:
        end(cluster, daemons)


def free_ports(n: int) -> list[int]:
    """Return ports of the loopback address that are free at the moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def wait_for_node(cluster: Cluster) -> None:
    """Wait until the node takes work."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        done = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"],
            env=cluster.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.stdout.strip() == "idle":
            return
        time.sleep(0.2)
    logs = [path.read_text()[-2000:] for path in sorted(cluster.folder.glob("*.log"))]
    raise RuntimeError("the node of the toy Slurm does not come up:\n" + "\n".join(logs))


def end(cluster: Cluster, daemons: list[subprocess.Popen]) -> None:
    """Cancel all jobs, wait until they are gone, and end the daemons."""
    if len(daemons) == 2:
        subprocess.run(
            ["scancel", "--full", "--user", "root"], env=cluster.environment, check=False
        )
        deadline = time.monotonic() + 15
        while cluster.states() and time.monotonic() < deadline:
            time.sleep(0.2)
    for daemon in reversed(daemons):
        daemon.send_signal(signal.SIGTERM)
    for daemon in reversed(daemons):
        try:
            daemon.wait(10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
