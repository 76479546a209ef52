"""`python -m wan_runtime`: the entry point of the runtime image."""

import sys

from wan_runtime.process import early

LACKING = 10
"""Exit code where a package is missing: as of wrong input, since a retry cannot help."""


def main() -> int:
    """Entry point. Returns the exit code."""
    early.catch()
    try:
        from wan_runtime import cli  # only now: it takes a third of a second

        return cli.main()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in ("wan_runtime", "wan_operator"):
            raise
        # Installed for the operator alone, say, whose commands come with this one.
        print(
            f"error: wan-runtime needs the package {error.name}, which is not installed: "
            "pip install '.[train,gateway]' in the checkout has all that it needs",
            file=sys.stderr,
        )
        return LACKING


if __name__ == "__main__":
    raise SystemExit(main())
