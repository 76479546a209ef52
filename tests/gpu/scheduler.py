"""Commands on the GPUs of this machine, side by side, by a process that outlives the one that
starts it: for machines that are lent for some minutes, of which none is to be idle.

    python tests/gpu/scheduler.py FOLDER open --gpus 2 --seconds 1700
    python tests/gpu/scheduler.py FOLDER add --gpus 2 --seconds 60 NAME COMMAND...
    python tests/gpu/scheduler.py FOLDER status
    python tests/gpu/scheduler.py FOLDER wait --seconds 500
    python tests/gpu/scheduler.py FOLDER drop NAME...

Jobs begin in the order in which they were added. One that needs more GPUs than are free waits for
them, and meanwhile what is behind it begins only if it is expected to end before they are free.
Nothing begins that is expected to end after the seconds of `open`. A job has the working directory
and environment of the command that added it, and CUDA_VISIBLE_DEVICES; what it says is in
FOLDER/NAME.log, what became of it in FOLDER/queue.json.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

LIMIT_SECONDS = 900.0
TICK = 0.1
NAME = re.compile(r"[\w.-]+")
ENDED = ("done", "failed", "dropped")
VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(slots=True)
class Job:
    name: str
    command: list[str]
    gpus: int = 1
    seconds: float = 0.0
    """Expected; 0: not known."""
    limit: float = LIMIT_SECONDS
    """Seconds after which it is killed."""
    folder: str = "."
    environment: dict[str, str] = field(default_factory=dict)
    result: tuple[str, str] | None = None
    """Path that it writes, and the one that this gets once it has succeeded."""
    state: str = "waiting"
    """Then running, then one of ENDED."""
    devices: list[int] = field(default_factory=list)
    pid: int | None = None
    began: float = 0.0
    ended: float = 0.0
    code: int | None = None
    """Exit code; None if it had to be killed, or could not begin."""

    def visible(self, gpus: int) -> list[str]:
        """What the machine's GPUs are called, by their numbers in the queue."""
        given = self.environment.get(VISIBLE)
        return given.split(",") if given else [str(device) for device in range(gpus)]


@dataclass(slots=True)
class Queue:
    gpus: int
    until: float | None
    """Unix time until which jobs may take; None: for ever."""
    jobs: list[Job]

    def of(self, state: str) -> list[Job]:
        return [job for job in self.jobs if job.state == state]

    def put(self, *jobs: Job) -> None:
        """ValueError if a job cannot run here, or another of its name waits or runs. In the place
        of one that has ended."""
        taken = {job.name for job in self.jobs if job.state not in ENDED}
        for job in jobs:
            if not NAME.fullmatch(job.name):
                raise ValueError(
                    f"{job.name!r} names no file: use letters, digits, '.', '_' and '-'"
                )
            if job.name in taken:
                raise ValueError(f"{job.name} is in the queue: choose another name")
            if not 1 <= job.gpus <= self.gpus:
                raise ValueError(f"{job.name} needs {job.gpus} GPUs; the queue has {self.gpus}")
            if len(job.visible(self.gpus)) < self.gpus:
                raise ValueError(
                    f"CUDA_VISIBLE_DEVICES is {job.environment[VISIBLE]!r}; the queue has "
                    f"{self.gpus} GPUs"
                )
            taken.add(job.name)
        names = {job.name for job in jobs}
        self.jobs = [*(job for job in self.jobs if job.name not in names), *jobs]

    def begin(self, now: float) -> list[Job]:
        """Those that begin now; they are running ever after."""
        begun, reserved = [], False
        free_at = now
        """Once `reserved`: when the first job that waits for GPUs is expected to have them."""
        for job in self.of("waiting"):
            if self.until is not None and now + job.seconds >= self.until:
                continue
            busy = {device for other in self.of("running") for device in other.devices}
            free = [device for device in range(self.gpus) if device not in busy]
            in_time = not reserved or (job.seconds > 0 and now + job.seconds <= free_at)
            if job.gpus <= len(free) and in_time:
                job.state, job.began, job.devices = "running", now, free[: job.gpus]
                begun.append(job)
            elif not reserved:
                reserved = True
                ends = sorted(
                    other.began + other.seconds
                    for other in self.of("running")
                    for _ in other.devices
                )
                free_at = ends[job.gpus - len(free) - 1]
        return begun


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[Queue]:
    """The queue of a folder, which nobody else changes meanwhile; written if the block succeeds.
    ValueError if it has none."""
    read(folder)
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        queue = read(folder)
        before = asdict(queue)
        yield queue
        if asdict(queue) != before:
            write(folder, queue)


def read(folder: Path) -> Queue:
    """The queue of a folder as it is. ValueError if it has none."""
    path = folder / "queue.json"
    if not path.is_file():
        raise ValueError(f"{folder} has no queue: open one first")
    content = json.loads(path.read_text())
    return Queue(**content | {"jobs": [Job(**job) for job in content["jobs"]]})


def write(folder: Path, queue: Queue) -> None:
    partial = folder / "queue.partial"
    partial.write_text(json.dumps(asdict(queue), indent=1))
    partial.rename(folder / "queue.json")


def open_queue(folder: Path, gpus: int, seconds: float | None) -> None:
    """A new one, or other limits of the one that is there. ValueError if jobs of it need more
    GPUs."""
    folder.mkdir(parents=True, exist_ok=True)
    until = None if seconds is None else time.time() + seconds
    if not (folder / "queue.json").is_file():
        write(folder, Queue(gpus, until, []))
    with locked(folder) as queue:
        most = max((job.gpus for job in queue.jobs if job.state not in ENDED), default=1)
        if gpus < most:
            raise ValueError(f"a job in the queue needs {most} GPUs, more than {gpus}")
        queue.gpus, queue.until = gpus, until
    detach(folder)


def add(folder: Path, *jobs: Job) -> None:
    """Put them at the end, and have them run. ValueError as of `Queue.put`."""
    with locked(folder) as queue:
        queue.put(*jobs)
    detach(folder)


def detach(folder: Path) -> None:
    """A process that runs what waits; it ends at once if there is one, or nothing to do."""
    with (folder / "runner.log").open("a") as log:
        subprocess.run(
            [sys.executable, __file__, str(folder), "run"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=True,
        )


def drop(folder: Path, names: Sequence[str]) -> None:
    """Those that wait never begin, and those that run are killed."""
    with locked(folder) as queue:
        unknown = set(names) - {job.name for job in queue.jobs}
        if unknown:
            raise ValueError(f"not in the queue: {', '.join(sorted(unknown))}")
        for job in queue.jobs:
            if job.name in names and job.state not in ENDED:
                job.state = "dropped"


def run(folder: Path) -> None:
    """Run what waits, until nothing is left that may begin."""
    running: dict[str, subprocess.Popen[bytes]] = {}
    with (folder / "runner").open("a") as alone:
        with locked(folder) as queue:
            try:
                fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            for job in queue.of("running"):  # of a process that was killed
                kill(job)
                job.state, job.ended = "failed", time.time()
        while True:
            with locked(folder) as queue:
                for job in queue.jobs:
                    if job.name in running and settled(job, running[job.name], folder):
                        del running[job.name]
                begun = queue.begin(time.time())
                for job in begun:
                    try:
                        running[job.name] = started(job, folder, queue.gpus)
                    except OSError as error:
                        fail(job, folder, error)
                    else:
                        job.pid = running[job.name].pid
                if not running and not begun:
                    fcntl.flock(alone, fcntl.LOCK_UN)
                    return
            time.sleep(TICK)


def started(job: Job, folder: Path, gpus: int) -> subprocess.Popen[bytes]:
    names = job.visible(gpus)
    devices = {VISIBLE: ",".join(names[device] for device in job.devices)}
    with (folder / f"{job.name}.log").open("ab") as log:
        return subprocess.Popen(
            job.command,
            cwd=job.folder,
            env=job.environment | devices,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def settled(job: Job, process: subprocess.Popen[bytes], folder: Path) -> bool:
    """Whether it has ended, by itself, by its limit or as it was dropped: nothing of it stays on
    its GPUs."""
    over = job.state == "dropped" or time.time() > job.began + job.limit
    if process.poll() is None and not over:
        return False
    job.code = process.poll()
    kill(job)
    process.wait()
    job.ended = time.time()
    if job.state == "running":
        job.state = "done" if job.code == 0 else "failed"
    if job.state == "done" and job.result:
        written, kept = (Path(job.folder, each) for each in job.result)
        try:
            written.rename(kept)
        except OSError as error:
            fail(job, folder, error)
    return True


def fail(job: Job, folder: Path, error: OSError) -> None:
    job.state, job.ended = "failed", time.time()
    with (folder / f"{job.name}.log").open("a") as log:
        log.write(f"{error}\n")


def kill(job: Job) -> None:
    with contextlib.suppress(ProcessLookupError):
        if job.pid is not None:
            os.killpg(job.pid, signal.SIGKILL)


def wait(folder: Path, seconds: float) -> int:
    """Until nothing runs or may begin. Exit code: 0 if all is done, 1 if something failed, 2 if the
    seconds went by before, 3 if jobs are left for which there was no time."""
    deadline, told = time.monotonic() + seconds, set[str]()
    detach(folder)
    while True:
        queue = read(folder)
        for job in queue.jobs:
            if job.state in ENDED and job.name not in told:
                told.add(job.name)
                print(line(job, folder), flush=True)
        if not queue.of("running") and not queue.begin(time.time()):
            return 3 if queue.of("waiting") else 1 if queue.of("failed") else 0
        if time.monotonic() > deadline:
            return 2
        time.sleep(TICK)


def line(job: Job, folder: Path) -> str:
    took = f"{(job.ended or time.time()) - job.began:.0f} s" if job.began else ""
    gpus = f"GPU {','.join(map(str, job.devices))}" if job.devices else f"GPUs: {job.gpus}"
    log = folder / f"{job.name}.log"
    said = log.read_text(errors="replace").strip().splitlines()[-1:] if log.is_file() else []
    code = f", exit {job.code}" if job.state == "failed" else ""
    facts = f"{job.name}: {job.state}{code}, {took or f'{job.seconds:.0f} s expected'}, {gpus}"
    return f"{facts}: {said[0][:200]}" if said and job.state != "done" else facts


def here(name: str, command: Sequence[str], environment: Mapping[str, str]) -> Job:
    """A job in this working directory."""
    return Job(name, list(command), folder=os.getcwd(), environment=dict(environment))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    actions = parser.add_subparsers(dest="action", required=True)
    opened = actions.add_parser("open", help="a queue, or other limits of one")
    opened.add_argument("--gpus", type=int, required=True)
    opened.add_argument("--seconds", type=float, help="that jobs may take from now on")
    added = actions.add_parser("add", help="a job, at the end")
    added.add_argument("--gpus", type=int, default=1)
    added.add_argument("--seconds", type=float, default=0.0, help="expected; 0: not known")
    added.add_argument("--limit", type=float, default=LIMIT_SECONDS, help="kill it after these")
    added.add_argument("name")
    added.add_argument("command", nargs=argparse.REMAINDER)
    dropped = actions.add_parser("drop", help="jobs that wait or run")
    dropped.add_argument("names", nargs="+")
    actions.add_parser("status", help="all jobs, and the end of what they say")
    waited = actions.add_parser("wait", help="until all have ended")
    waited.add_argument("--seconds", type=float, default=3600.0, help="at most")
    actions.add_parser("run")
    options = parser.parse_args(arguments)
    folder = options.folder.resolve()
    try:
        return act(folder, options)
    except ValueError as error:
        parser.error(str(error))


def act(folder: Path, options: argparse.Namespace) -> int:
    match options.action:
        case "open":
            open_queue(folder, options.gpus, options.seconds)
        case "add":
            job = here(options.name, options.command, os.environ)
            job.gpus, job.seconds, job.limit = options.gpus, options.seconds, options.limit
            if not job.command:
                raise ValueError(f"{job.name} has no command")
            add(folder, job)
        case "drop":
            drop(folder, options.names)
        case "status":
            queue = read(folder)
            print("\n".join(line(job, folder) for job in queue.jobs))
        case "wait":
            return wait(folder, options.seconds)
        case "run" if os.fork() == 0:
            os.setsid()
            run(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
