"""A real Slurm for tests: its controller and two nodes on this machine, on ports of its own.

Nothing outside its folder is read or written. Each node claims four cores, whatever the machine
has; node `gpu` claims two GPUs, which are counted and named to jobs but are none. Jobs of partition
`urgent` preempt those of the others.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

DAEMONS = ("munged", "slurmctld", "slurmd")
COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
CPUS = 4
UP_SECONDS = 60.0
COMMAND_SECONDS = 300.0  # sbatch --wait lasts as long as its job

CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
ReturnToService=2
KillWait=5
MessageTimeout=60
UnkillableStepTimeout=300
MinJobAge=600
EnforcePartLimits=ALL
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=DEFAULT CPUs={cpus} RealMemory={memory_mb}
NodeName=cpu NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]}
NodeName=gpu NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} Gres=gpu:fake:2
PartitionName=cpu Nodes=cpu Default=YES MaxTime=1-00:00:00
PartitionName=gpu Nodes=gpu MaxTime=1-00:00:00
PartitionName=both Nodes=cpu,gpu MaxTime=1-00:00:00
PartitionName=urgent Nodes=cpu MaxTime=1-00:00:00 PriorityTier=2
"""
GRES = """\
AutoDetect=off
NodeName=gpu Name=gpu Type=fake File=/dev/null,/dev/zero Flags=nvidia_gpu_env
"""


class ClusterError(Exception):
    """Slurm is installed, but does not start or answer here; says what its logs say."""


def skip_without_slurm() -> None:
    """Skip the test where Slurm cannot be started, saying why."""
    missing = [name for name in (*DAEMONS, *COMMANDS) if shutil.which(name, path=_path()) is None]
    if missing:
        pytest.skip(
            f"Slurm is not installed ({', '.join(missing)} missing): "
            "apt-get install munge slurmctld slurmd slurm-client"
        )
    if os.geteuid() != 0:
        pytest.skip("Slurm's daemons are started as root only")


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


class SlurmCluster:
    """A running cluster; `environment` is what commands and workflows need to reach it.

    SLURM_CONF alone would not do, as Snakemake's plugin drops it inside of jobs: so each command
    of Slurm is also put on the PATH as a script that sets it.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # short: sockets lie in it
        path = f"{self.folder}/bin:{Path(sys.executable).parent}:{_path()}"
        self.environment = {
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": path,
            "MASTER_ADDR": "127.0.0.1",  # names of nodes are known to Slurm alone
        }
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start everything and wait until both nodes are up."""
        (self.folder / "state").mkdir()
        (self.folder / "bin").mkdir()
        for name in COMMANDS:
            script = self.folder / "bin" / name
            config = self.environment["SLURM_CONF"]
            script.write_text(f'#!/bin/sh\nSLURM_CONF={config} exec {shutil.which(name)} "$@"\n')
            script.chmod(0o755)
        (self.folder / "munge.key").write_bytes(os.urandom(1024))
        (self.folder / "munge.key").chmod(0o400)
        memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
        config = CONFIG.format(
            host=socket.gethostname().partition(".")[0],
            folder=self.folder,
            ports=_free_ports(3),
            cpus=CPUS,
            memory_mb=memory_mb,
        )
        (self.folder / "slurm.conf").write_text(config)
        (self.folder / "gres.conf").write_text(GRES)
        munged = ["munged", "--foreground", "--force", f"--socket={self.folder}/munge.socket"]
        munged += [f"--key-file={self.folder}/munge.key", f"--pid-file={self.folder}/munged.pid"]
        munged += [f"--log-file={self.folder}/munged.log", f"--seed-file={self.folder}/munged.seed"]
        self._spawn("munged", *munged)
        self._wait("munged", lambda: (self.folder / "munge.socket").exists())
        self.start_controller()
        for node in ("cpu", "gpu"):
            self._spawn(f"slurmd-{node}", "slurmd", "-D", "-N", node)
        self._wait("the nodes", lambda: self._idle_nodes() == {"cpu", "gpu"})

    def start_controller(self) -> None:
        """Start the controller, and wait until it answers."""
        self._spawn("slurmctld", "slurmctld", "-D")
        self._wait("slurmctld", lambda: "UP" in self.run("scontrol", "ping"))

    def stop_controller(self) -> None:
        """Stop the controller as a restart of its machine does: jobs go on."""
        self._end("slurmctld")

    def stop(self) -> None:
        """End all jobs and daemons, and remove the folder."""
        if "slurmctld" in self._daemons:
            self.run("scancel", "--user=root")
            deadline = time.monotonic() + UP_SECONDS
            while self.run("squeue", "-h").strip() and time.monotonic() < deadline:
                time.sleep(0.5)
        for name in reversed(list(self._daemons)):
            self._end(name)
        self._kill_left_behind()
        shutil.rmtree(self.folder)

    def _kill_left_behind(self) -> None:
        """Kill what outlives its job: a Snakemake may wait for itself in its handler of signals."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("PATH", "").startswith(f"{self.folder}/bin:"):
                    process.kill()

    def run(self, *command: str) -> str:
        """Run a command of Slurm; return what it prints, empty where it fails."""
        environment = os.environ | self.environment
        finished = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        return finished.stdout if finished.returncode == 0 else ""

    def jobs(self, comment: str) -> list[str]:
        """Numbers of the jobs in the queue that Snakemake's comment tells apart."""
        lines = self.run("squeue", "-h", "-o", "%i %k").splitlines()
        return [line.split()[0] for line in lines if comment in line]

    def _idle_nodes(self) -> set[str]:
        return set(self.run("sinfo", "-hN", "-t", "idle", "-o", "%N").split())

    def _spawn(self, name: str, *command: str) -> None:
        log = (self.folder / f"{name}.out").open("ab")
        environment = os.environ | self.environment
        self._daemons[name] = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )

    def _end(self, name: str) -> None:
        daemon = self._daemons.pop(name)
        daemon.terminate()
        try:
            daemon.wait(30)
        except subprocess.TimeoutExpired:
            daemon.send_signal(signal.SIGKILL)
            daemon.wait()

    def _wait(self, what: str, is_up: Callable[[], bool]) -> None:
        deadline = time.monotonic() + UP_SECONDS
        while not is_up():
            has_died = any(daemon.poll() is not None for daemon in self._daemons.values())
            if has_died or time.monotonic() > deadline:
                logs = [*self.folder.glob("*.log"), *self.folder.glob("*.out")]
                told = "\n".join(f"{log}: {log.read_text()[-1000:]}" for log in sorted(logs))
                raise ClusterError(f"{what} did not come up\n{told}")
            time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for unused in sockets:
            unused.bind(("127.0.0.1", 0))
        return [unused.getsockname()[1] for unused in sockets]
    finally:
        for unused in sockets:
            unused.close()
