"""`make demo`: from real clips and one YAML to a trained adapter that can be looked at.

Starts what is missing, uploads clips, applies `examples/finetune-tiny.yaml`, shows its progress as
the operator reports it, and fetches the result into `demo-output/`, verifying every checksum.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.live import Live
from rich.table import Table

from clips import write_dataset
from stack import BUCKET, ROOT, CommandError, Manifest, Stack

NAMESPACE = "wan-demo"
EXAMPLE = ROOT / "examples" / "finetune-tiny.yaml"
OUTPUT = ROOT / "demo-output"
DEADLINE = 1800
"""Seconds until the demo gives up on the run."""

console = Console(soft_wrap=True)


def main() -> int:
    started = time.monotonic()
    try:
        stack = Stack.ensure(say=lambda text: console.print(f"[dim]{clock(started)}[/] {text}"))
        finetune = yaml.safe_load(EXAMPLE.read_text())
        name = finetune["metadata"]["name"]
        upload_clips(stack, finetune["spec"]["dataset"]["source"], started)
        apply(stack, finetune)
        if not watch(stack, name, started):
            return 1
        fetch(stack, name)
    except (CommandError, TimeoutError) as error:
        console.print(f"[red]{error}[/]")
        return 1
    conclude(stack, name, started)
    return 0


def clock(started: float) -> str:
    seconds = int(time.monotonic() - started)
    return f"{seconds // 60:2d}:{seconds % 60:02d}"


def upload_clips(stack: Stack, source: str, started: float) -> None:
    prefix = source.removeprefix(f"s3://{BUCKET}/")
    with tempfile.TemporaryDirectory() as folder:
        metadata = write_dataset(Path(folder))
        clips = len(metadata.read_text().splitlines()) - 1
        stack.upload(Path(folder), prefix)
    console.print(f"[dim]{clock(started)}[/] {clips} clips of a man in a car uploaded to {source}")


def apply(stack: Stack, finetune: Manifest) -> None:
    """Applies the example as a new run: one of an earlier demo is finished and would stay so."""
    stack.make_namespace(NAMESPACE)
    name = finetune["metadata"]["name"]
    stack.kubectl("-n", NAMESPACE, "delete", "wft", name, "--ignore-not-found", "--wait")
    console.print(f"[bold]$ kubectl -n {NAMESPACE} apply -f {EXAMPLE.relative_to(ROOT)}[/]")
    # As in the file, but for the store's address, which is another in a cluster of the user's own.
    finetune["metadata"]["namespace"] = NAMESPACE
    finetune["spec"]["store"]["endpoint"] = stack.endpoint
    stack.apply(finetune)


def watch(stack: Stack, name: str, started: float) -> bool:
    """Shows the run until it is complete; False, with the reason shown, when it cannot complete."""
    with Live(console=console, refresh_per_second=4, transient=not console.is_terminal) as live:
        deadline = time.monotonic() + DEADLINE
        shown = ""
        while time.monotonic() < deadline:
            status = stack.get("-n", NAMESPACE, "wft", name).get("status", {})
            conditions = {
                c["type"]: c for c in status.get("conditions", []) if c["status"] == "True"
            }
            if console.is_terminal:
                live.update(picture(status, started))
            elif (line := one_line(status, conditions)) != shown:
                console.print(f"[dim]{clock(started)}[/] {line}")
                shown = line
            if "Complete" in conditions:
                return True
            if stalled := conditions.get("Stalled"):
                console.print(f"[red]{stalled['reason']}: {stalled['message']}[/]")
                return False
            time.sleep(1)
    console.print(
        f"[red]not complete after {DEADLINE} s: kubectl -n {NAMESPACE} describe wft {name}[/]"
    )
    return False


def picture(status: Manifest, started: float) -> Table:
    """The steps as a table."""
    table = Table(title=f"WanFineTune · {clock(started)}", title_justify="left", expand=False)
    for column in ("step", "state", "progress", "attempts"):
        table.add_column(column)
    progress = status.get("progress", {})
    colour = {"Complete": "green", "Running": "cyan", "Failed": "red"}
    for step in status.get("steps", []):
        running = progress.get("step") == step["name"] and step["state"] == "Running"
        detail = (
            f"{progress.get('activity', '')} {progress['current']}/{progress['total']}"
            if running
            else ""
        )
        eta = f" · {progress['eta']} left" if running and progress.get("eta") else ""
        state = step["state"]
        table.add_row(
            step["name"],
            f"[{colour.get(state, 'dim')}]{state}[/]",
            detail + eta,
            str(step.get("attempts", 0)),
        )
    return table


def one_line(status: Manifest, conditions: dict[str, Any]) -> str:
    done = [step["name"] for step in status.get("steps", []) if step["state"] == "Complete"]
    telling = next(iter(conditions.values()), {"type": "Pending", "reason": "", "message": ""})
    display = status.get("progress", {}).get("display", "")
    told = f"{telling['type']} {telling['reason']} {display}"
    return f"{told} · done: {', '.join(done) or 'nothing yet'}"


def fetch(stack: Stack, name: str) -> None:
    """Downloads what the steps committed, checking every file against its manifest."""
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir()
    steps = stack.get("-n", NAMESPACE, "wft", name)["status"]["steps"]
    rows = []
    for step in steps:
        if step["name"] in ("prepare", "export", "sample"):
            rows += fetch_step(stack, step)
    lines = ["| step | file | bytes | SHA-256 |", "| --- | --- | --- | --- |", *rows]
    (OUTPUT / "artifacts.md").write_text("\n".join(lines) + "\n")


def fetch_step(stack: Stack, step: Manifest) -> list[str]:
    rows = []
    for path, content in stack.committed(step["artifact"]).items():
        (OUTPUT / Path(path).name).write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        rows.append(f"| {step['name']} | {path} | {len(content)} | `{sha256}` |")
    return rows


def conclude(stack: Stack, name: str, started: float) -> None:
    status = stack.get("-n", NAMESPACE, "wft", name)["status"]
    console.print()
    console.print(stack.kubectl("-n", NAMESPACE, "get", "wan", "-o", "wide").strip())
    console.print()
    for step in status["steps"]:
        summary = ", ".join(f"{key} {value}" for key, value in step.get("summary", {}).items())
        console.print(f"  {step['name']:8} {summary}")
    files = Table(title=f"demo-output/ after {clock(started).strip()}", title_justify="left")
    files.add_column("file")
    files.add_column("bytes", justify="right")
    for path in sorted(OUTPUT.iterdir()):
        files.add_row(path.name, f"{path.stat().st_size:,}")
    console.print(files)
    kubectl = f"kubectl --kubeconfig {stack.kubeconfig} -n {NAMESPACE}"
    console.print(
        "Look at demo-output/contact-sheet.png and demo-output/demo-loss.png. Then try:",
        highlight=False,
    )
    for command in (
        f"export PATH={stack.bin}:$PATH",
        f"{kubectl} describe wft {name}",
        f"{kubectl} get events --sort-by=.lastTimestamp",
        f"{kubectl} apply -f examples/invalid/sage.yaml      # refused, and why",
        "make cluster-down",
    ):
        console.print(f"  {command}", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
