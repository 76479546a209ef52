"""Writes the generated files, or with --check prints what would change."""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path

from wan_operator.crdgen import chart
from wan_operator.crdgen.files import generate


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m wan_operator.crdgen", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; print a diff and exit 1 on drift"
    )
    parser.add_argument(
        "--root", type=Path, default=Path(), help="folder of the repository (default: this folder)"
    )
    options = parser.parse_args(arguments)
    if not (options.root / "pyproject.toml").is_file():
        parser.error(f"{options.root.resolve()} is not the repository: it has no pyproject.toml")

    drift = False
    files = generate()
    values = options.root / chart.VALUES
    if values.is_file():
        files[chart.README] = chart.readme(values.read_text(encoding="utf-8"))
    for name, wanted in files.items():
        path = options.root / name
        found = path.read_text(encoding="utf-8") if path.is_file() else ""
        if found == wanted:
            continue
        drift = True
        if options.check:
            sys.stdout.writelines(
                difflib.unified_diff(
                    found.splitlines(keepends=True),
                    wanted.splitlines(keepends=True),
                    f"{name} (found)",
                    f"{name} (generated)",
                )
            )
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted, encoding="utf-8")
            print(f"wrote {name}")
    if options.check and drift:
        print("Generated files differ from the models: run `make generate`.", file=sys.stderr)
    return 1 if options.check and drift else 0


if __name__ == "__main__":
    sys.exit(main())
