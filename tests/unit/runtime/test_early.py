"""A SIGTERM in the first moments of a pod, with a real process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from job_files import make_job
from wan_runtime.contract.job import Result
from wan_runtime.contract.reasons import Reason

STOPPED_WHILE_IMPORTING = """\
import os, runpy, signal, sys
class Stopper:
    def find_spec(self, name, path=None, target=None):
        if name == "pydantic":  # the first of the imports that take time
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGTERM)
sys.meta_path.insert(0, Stopper())
sys.argv[0] = "wan-runtime"
runpy.run_module("wan_runtime", run_name="__main__")
"""


def test_a_signal_before_the_supervisor_is_there_is_not_lost(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(make_job().model_dump_json(by_alias=True))
    options = ("--job", str(tmp_path / "job.json"), "--work", str(tmp_path / "work"))
    ended = subprocess.run(
        [sys.executable, "-c", STOPPED_WHILE_IMPORTING, "prepare", *options],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "WAN_TERMINATION_FILE": str(tmp_path / "end"),
            "WAN_PROGRESS_PORT": "0",
        },
        timeout=300,
        check=False,
    )
    assert ended.returncode == 40
    result = Result.model_validate_json((tmp_path / "end").read_text())
    assert result.reason is Reason.TERMINATED
