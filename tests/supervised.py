"""A supervisor as a process of its own, over children that do what a test says."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from job_files import make_job
from object_store import ObjectStore
from ports import free_port
from wan_runtime.contract.job import Progress, Result
from wan_runtime.contract.steps import Step

TESTS = Path(__file__).parent
DRIVER = """\
import sys
from pathlib import Path
from wan_runtime.process import logs
from wan_runtime.contract.steps import Step
from wan_runtime.process.supervisor import supervise
logs.configure(sys.argv[3])
class Impatient:
    factor, least, every, dump = 5.0, 4.0, 0.05, 2.0
    @property
    def silence(self):  # a machine under load may start slowly
        return 0.5 if Path(sys.argv[2], "silent").exists() else 600.0
sys.exit(supervise(Step(sys.argv[3]), Path(sys.argv[1]), Path(sys.argv[2]), module="step_double",
                   patience=Impatient()))
"""


PATIENCE = 300
"""Seconds within which a process must start, do as told or end."""


@dataclass
class Ended:
    code: int
    result: Result
    output: str
    errors: str


class Pod:
    """One run of the supervisor as a process of its own."""

    def __init__(
        self,
        folder: Path,
        server: ObjectStore,
        does: str,
        step: Step = Step.PREPARE,
        environment: dict[str, str] | None = None,
        **training: Any,
    ) -> None:
        """`does`: a function of `step_double`, or one for each rank with commas between."""
        self.work = folder / "work"
        self.work.mkdir(exist_ok=True)
        self.termination = folder / "termination-log"
        self.port = free_port()
        stored = server.spec(prefix=folder.name).model_dump(by_alias=True)
        job = make_job(step=step, store=stored, training=training)
        (folder / "job.json").write_text(job.model_dump_json(by_alias=True))
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(folder / "job.json"), str(self.work), step],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]),
                "WAN_TEST_DOES": does,
                "WAN_TERMINATION_FILE": str(self.termination),
                "WAN_PROGRESS_PORT": str(self.port),
                "WAN_RUN_DIR": str(folder / "run"),
                **(environment or {}),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self) -> Ended:
        output, errors = self.process.communicate(timeout=PATIENCE)
        result = Result.model_validate_json(self.termination.read_text())
        assert self.process.returncode == result.exit_class
        return Ended(self.process.returncode, result, output, errors)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=PATIENCE)  # closes the pipes

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return str(answer.read().decode())

    def until(self, activity: str) -> Progress:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                now = Progress.model_validate_json(self.get("/progress"))
            except urllib.error.URLError:
                time.sleep(0.05)
                continue
            if now.activity == activity:
                return now
            time.sleep(0.02)
        raise AssertionError(f"never {activity}")


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
