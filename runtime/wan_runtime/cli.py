"""`wan-runtime`: what the pods of fine-tunes, evaluations and services run."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from wan_runtime.contract.job import JOB_FILE, PROGRESS_PORT, TERMINATION_FILE, ExitClass
from wan_runtime.contract.steps import FACTS, Step
from wan_runtime.data import command as dataset
from wan_runtime.presets import PRESETS
from wan_runtime.process import early, logs, supervisor
from wan_runtime.serving import clear
from wan_runtime.serving import command as serving
from wan_runtime.serving.worker import arguments as worker_arguments

ENDED_BY_THEMSELVES = (*FACTS, "worker")
"""Commands that act on SIGTERM: they have something to save or to hand back."""

EPILOG = f"""\
environment:
  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY   credentials of the store
  WAN_TERMINATION_FILE   where the result is written ({TERMINATION_FILE})
  WAN_PROGRESS_PORT      port of /progress, /metrics and /healthz ({PROGRESS_PORT}; 0: any free one)
  WAN_RUN_DIR            folder for progress and result files (a temporary one)

exit codes:
  0   done; a step that is already committed is verified and counts as done
  10  the input is wrong: a retry cannot help      20  out of GPU or host memory
  30  store, node or driver failed, or a bug       40  stopped on request; run again to go on
  50  training diverged, or trains nothing
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    root = argparse.ArgumentParser(
        prog="wan-runtime",
        description="Does what the operator's pods do: a step of a fine-tune or an evaluation,\n"
        "the gateway or a worker of a service.\n"
        "Every step may be run again: it goes on where it stopped.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"wan-runtime {_version()}")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for step, facts in FACTS.items():
        about = f"wan-runtime {step}: {facts.help}."
        command = commands.add_parser(step, help=facts.help, description=about)
        command.add_argument(
            "--job",
            type=Path,
            default=Path(JOB_FILE),
            metavar="FILE",
            help="JobSpec as JSON, as the operator mounts it (default: %(default)s)",
        )
        command.add_argument(
            "--work",
            type=Path,
            metavar="DIR",
            help="scratch folder; keep it between attempts to save downloads "
            "(default: a temporary one, removed at the end)",
        )
        command.set_defaults(run=_step)
    text = "write a small base model of a preset's architecture, for demos and tests without a GPU"
    tiny = commands.add_parser(
        "tiny-model", help=text, description=f"wan-runtime tiny-model: {text}."
    )
    tiny.add_argument("folder", type=Path, metavar="DIR", help="where to write it: new or empty")
    tiny.add_argument(
        "--preset",
        required=True,
        choices=[name for name, preset in PRESETS.items() if preset.tiny],
        help="whose architecture",
    )
    tiny.set_defaults(run=_tiny_model)
    dataset.add_to(commands)
    serving.add_to(commands)
    clear.add_to(commands)
    worker_arguments.add_to(commands)
    return root


def main(arguments: list[str] | None = None) -> int:
    """Entry point. Returns the exit code."""
    options = parser().parse_args(arguments)
    # For the processes of every command: none compiles, while diffsynth wraps a kernel of other
    # models in torch's compiler at import, which takes a second and 100 MB.
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    logs.configure(options.command)
    if options.command not in ENDED_BY_THEMSELVES:
        early.release()
    return int(options.run(options))


def _step(options: argparse.Namespace) -> int:
    step = Step(options.command)
    if options.work is not None:
        options.work.mkdir(parents=True, exist_ok=True)
        return supervisor.supervise(step, options.job, options.work)
    with tempfile.TemporaryDirectory(prefix="wan-work-") as folder:
        return supervisor.supervise(step, options.job, Path(folder))


def _tiny_model(options: argparse.Namespace) -> int:
    folder: Path = options.folder
    try:
        # Its files have the names of a real model's, which it would overwrite.
        if folder.is_dir() and any(folder.iterdir()):
            raise FileExistsError(errno.ENOTEMPTY, "it is not empty", str(folder))
        # Imported here: torch takes seconds, and no other command of this process needs it.
        importlib.import_module("wan_runtime.models.tiny").write(PRESETS[options.preset], folder)
    except OSError as error:
        print(f"{folder} cannot be written: {error.strerror}", file=sys.stderr)
        return int(ExitClass.INPUT)
    return 0


def _version() -> str:
    try:
        return version("wan-operator")
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
