"""`kubectl-wan`, which kubectl finds as `kubectl wan`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from wan_operator.cli import version
from wan_operator.kubectl import plan
from wan_operator.yaml_files import DocumentError

PROGRAM = "kubectl wan"


def main(argv: Sequence[str] | None = None) -> int:
    """0 done; 1 something does not fit; 2 the input or the command line is wrong."""
    if argv is None and hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it without a word
    given = sys.argv[1:] if argv is None else argv
    if not given:  # as kubectl does
        parser().print_help()
        return 0
    options = parser().parse_args(given)
    try:
        return int(options.run(options))
    except DocumentError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog=PROGRAM, description="Plans Wan resources.")
    made.add_argument("--version", action="version", version=f"{PROGRAM} {version()}")
    commands = made.add_subparsers(title="commands", metavar="", required=True)
    plan.add_to(commands)
    return made


if __name__ == "__main__":
    sys.exit(main())
