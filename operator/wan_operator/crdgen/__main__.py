"""Writes the generated files, or with --check prints what would change."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Mapping
from pathlib import Path

from wan_operator.crdgen import chart
from wan_operator.crdgen.files import generate
from wan_operator.crdgen.schema import Unstructural
from wan_operator.yaml_files import DocumentError, yaml_documents

PROGRAM = "python -m wan_operator.crdgen"
UNUSABLE = 2


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; print a diff and exit 1 on drift"
    )
    parser.add_argument(
        "--root", type=Path, default=Path(), help="folder of the repository (default: this folder)"
    )
    options = parser.parse_args(arguments)
    if not (options.root / "pyproject.toml").is_file():
        parser.error(f"{options.root.resolve()} is not the repository: it has no pyproject.toml")

    try:
        return _bring_up_to_date(options.root, _wanted(options.root), check=options.check)
    except (Unstructural, DocumentError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
    except OSError as error:
        print(f"{PROGRAM}: {error.filename}: {error.strerror}", file=sys.stderr)
    return UNUSABLE


def _wanted(root: Path) -> dict[str, str]:
    """Path -> content of every file. Raises Unstructural, DocumentError, OSError."""
    files = generate()
    values = root / chart.VALUES
    if values.is_file():
        documents = yaml_documents(str(values))
        if len(documents) != 1 or not isinstance(documents[0], dict):
            raise DocumentError(f"{values} must hold one object with the values of the chart")
        try:
            files[chart.README] = chart.readme(values.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:  # UTF-16, which Helm does not read either
            raise DocumentError(f"{values} is no text in UTF-8: save it as UTF-8") from error
    return files


def _bring_up_to_date(root: Path, files: Mapping[str, str], *, check: bool) -> int:
    drift = False
    for name, wanted in files.items():
        path = root / name
        found = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        if found == wanted:
            continue
        drift = True
        if check:
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
    if check and drift:
        print("Generated files differ from the models: run `make generate`.", file=sys.stderr)
    return 1 if check and drift else 0


if __name__ == "__main__":
    sys.exit(main())
