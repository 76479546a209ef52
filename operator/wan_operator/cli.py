"""`wan-operator`: the operator's command line."""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.metadata
import os
import sys
from collections.abc import Sequence

from wan_operator.settings import Settings, SettingsError


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["crds"]:
        # Its arguments are its own; see wan_operator/crdgen.
        from wan_operator.crdgen.__main__ import main as generate

        return generate(arguments[1:])
    options = parser().parse_args(arguments)
    return run(show_settings=getattr(options, "show_settings", False))


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="wan-operator",
        description="Runs WanFineTune, WanInferenceService and WanEvaluation resources on "
        "Kubernetes. Configured by WAN_* environment variables.",
    )
    made.add_argument("--version", action="version", version=f"wan-operator {version()}")
    commands = made.add_subparsers(title="commands", metavar="")
    run_command = commands.add_parser("run", help="run the operator (the default)")
    run_command.add_argument(
        "--show-settings", action="store_true", help="print the settings in use and exit"
    )
    commands.add_parser("crds", help="write the CRDs and the API reference", add_help=False)
    return made


def version() -> str:
    try:
        return importlib.metadata.version("wan-operator")
    except importlib.metadata.PackageNotFoundError:
        return "0.0.0+source"


def run(*, show_settings: bool) -> int:
    try:
        settings = Settings.from_env(os.environ)
    except SettingsError as error:
        print(f"wan-operator: {error}", file=sys.stderr)
        return 2
    if show_settings:
        for variable, value in settings.show().items():
            print(f"{variable}={value}")
        return 0
    # kopf and the client take most of a second to import; --help must not. The collector of garbage
    # would go through all that has been imported, again and again: it stays to the end.
    gc.disable()
    try:
        from wan_operator import process
    finally:
        gc.freeze()
        gc.enable()
    process.configure_logging(settings)
    return asyncio.run(process.run(settings))


if __name__ == "__main__":
    sys.exit(main())
