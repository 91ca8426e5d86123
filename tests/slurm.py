"""A Slurm of its own on this host's loopback: two nodes or more, which are processes that the test ends."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from processes import PATIENCE, until

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "sinfo", "scontrol", "scancel")
MISSING = [name for name in NEEDED if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]
needs_slurm = pytest.mark.skipif(
    bool(MISSING), reason=f"no Slurm here ({', '.join(MISSING)}): apt-get install slurmctld slurmd slurm-client munge"
)
CONFIGURATION = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={root}/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/run/slurmctld.pid
SlurmdPidFile={root}/run/%n.pid
SlurmctldLogFile={root}/log/slurmctld
SlurmdLogFile={root}/log/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmdParameters=config_overrides
SlurmdTimeout=6
KillWait=2
InactiveLimit=0
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
"""


@dataclass
class Cluster:
    """Nodes ``n1``, … of two cores; partitions ``main``, ``urgent``, which preempts, and ``apart`` with the last.

    Attributes:
        root: where all its files are.
        nodes: how many.
        hidden: a folder that the last node does not see; none if None.
    """

    root: Path
    nodes: int = 2
    hidden: Path | None = None
    daemons: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def start(self) -> None:
        for name in ("state", "spool", "log", "run", "munge"):
            (self.root / name).mkdir(parents=True, mode=0o700)
        (self.root / "munge" / "key").write_bytes(os.urandom(64))
        (self.root / "munge" / "key").chmod(0o600)
        (self.root / "slurm.conf").write_text(self._configuration())
        munge = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        places = [f"--{option}={self.root}/munge/{file}" for option, file in munge.items()]
        self._run("munged", "munged", "--foreground", "--force", *places)
        assert until((self.root / "munge" / "socket").exists)
        self._run("slurmctld", "slurmctld", "-D", "-i")
        for number in range(1, self.nodes + 1):
            self.start_node(f"n{number}")
        assert until(lambda: self.ask("sinfo", "-h", "-t", "idle", "-o", "%D").split()[:1] == [str(self.nodes)])

    def _configuration(self) -> str:
        sockets = [socket.socket() for _ in range(self.nodes + 1)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        first, *ports = [one.getsockname()[1] for one in sockets]
        for one in sockets:
            one.close()
        host, last = socket.gethostname().partition(".")[0], f"n{self.nodes}"
        user = psutil.Process().username()
        text = CONFIGURATION.format(host=host, port=first, user=user, root=self.root)
        for number, port in enumerate(ports, start=1):
            text += f"NodeName=n{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=2000\n"
        text += "PartitionName=main Nodes=ALL Default=YES MaxTime=60 PriorityTier=1\n"
        text += "PartitionName=urgent Nodes=ALL PriorityTier=9 PreemptMode=OFF\n"
        return text + f"PartitionName=apart Nodes={last} PriorityTier=1\n"

    def start_node(self, name: str) -> None:
        command = ["slurmd", "-D", "-N", name]
        if self.hidden is not None and name == f"n{self.nodes}":
            self.hidden.mkdir(parents=True, exist_ok=True)
            inside = f"mount -t tmpfs none '{self.hidden}' && exec {' '.join(command)}"
            command = ["unshare", "--mount", "sh", "-c", inside]
        self._run(name, *command)

    def kill_node(self, name: str) -> None:
        """As if its power failed: its daemon and all its jobs are gone at once."""
        mine = self.daemons[name]
        jobs = [process for process in psutil.process_iter() if _node(process) == name]
        members = [psutil.Process(mine.pid), *jobs]
        for process in members:
            for one in (process, *(process.children(recursive=True) if process.is_running() else ())):
                if one.is_running():
                    one.kill()
        mine.wait()

    def _run(self, name: str, *command: str) -> None:
        with (self.root / "log" / f"{name}.out").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which Slurm's commands find it."""
        commands = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
        return os.environ | {"SLURM_CONF": str(self.root / "slurm.conf"), "PATH": commands}

    def ask(self, *command: str) -> str:
        """What a command of Slurm prints, whatever its end."""
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        ).stdout

    def stop(self) -> None:
        """Cancel all jobs, then end the daemons."""
        self.ask("scancel", "--user", psutil.Process().username())
        until(lambda: not self.ask("squeue", "-h"), 20)
        for daemon in reversed(list(self.daemons.values())):
            if daemon.poll() is None:
                daemon.send_signal(signal.SIGTERM)
                try:
                    daemon.wait(10)
                except subprocess.TimeoutExpired:
                    os.killpg(daemon.pid, signal.SIGKILL)
                    daemon.wait()


def _node(process: psutil.Process) -> str:
    """The node that a process of a job runs on; empty for any other."""
    try:
        return process.environ().get("SLURMD_NODENAME", "")
    except psutil.Error:
        return ""


@contextmanager
def running_cluster(
    root: Path, patch: pytest.MonkeyPatch, folders: Sequence[Path], **given: object
) -> Iterator[Cluster]:
    """A cluster that this process finds, whose jobs import from the given folders."""
    cluster = Cluster(root, **given)  # type: ignore[arg-type]
    patch.setenv("SLURM_CONF", str(root / "slurm.conf"))
    patch.setenv("PYTHONPATH", os.pathsep.join(map(str, folders)))
    patch.setenv("PATH", cluster.environment["PATH"])
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
