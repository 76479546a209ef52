"""`python -m wan_runtime`: the entry point of the runtime image."""

from wan_runtime.process import early


def main() -> int:
    """Entry point. Returns the exit code."""
    early.catch()
    from wan_runtime import cli  # only now: it takes a third of a second

    return cli.main()


if __name__ == "__main__":
    raise SystemExit(main())
