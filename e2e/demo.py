"""`make demo`: from real clips and three YAMLs to a trained adapter and a service that uses it.

Starts what is missing, uploads clips, applies `examples/finetune-tiny.yaml`, shows its progress as
the operator reports it, and fetches the result into `demo-output/`, verifying every checksum. Then
applies `examples/evaluation-tiny.yaml`, which compares the adapter with the base model, and
`examples/inference-tiny.yaml`, which serves the winner; makes a video through OpenAI's SDK and
takes a picture of the studio.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import av
import yaml
from playwright.sync_api import expect, sync_playwright
from rich.console import Console
from rich.live import Live
from rich.table import Table

from clips import CUTS, write_dataset
from services import EXAMPLE as EXAMPLE_SERVICE
from services import Service, make_video, manifest
from stack import BUCKET, ROOT, Manifest, Stack, status_of

NAMESPACE = "wan-demo"
EXAMPLE = ROOT / "examples" / "finetune-tiny.yaml"
EXAMPLE_EVALUATION = ROOT / "examples" / "evaluation-tiny.yaml"
TITLES = {"wft": "WanFineTune", "wev": "WanEvaluation"}
OUTPUT = ROOT / "demo-output"
CHROMIUM = "/usr/bin/chromium"
DEADLINE = 1800
"""Seconds until the demo gives up on the run."""

console = Console(soft_wrap=True)


def main() -> int:
    started = time.monotonic()
    stack = Stack.ensure(say=lambda text: console.print(f"[dim]{clock(started)}[/] {text}"))
    finetune = yaml.safe_load(EXAMPLE.read_text())
    name = finetune["metadata"]["name"]
    upload_clips(stack, finetune["spec"]["dataset"]["source"], started)
    apply(stack, finetune, EXAMPLE)
    if not watch(stack, "wft", name, started):
        return 1
    fetch(stack, name)
    compared = compare(stack, started)
    if compared is None:
        return 1
    service = serve(stack, compared, started)
    film(service, started)
    conclude(stack, name, service, started)
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


def apply(stack: Stack, wanted: Manifest, file: Path) -> None:
    """Applies an example as a new run: one of an earlier demo is finished and would stay so."""
    stack.make_namespace(NAMESPACE)
    named = (wanted["kind"], wanted["metadata"]["name"])
    stack.kubectl("-n", NAMESPACE, "delete", *named, "--ignore-not-found", "--wait")
    console.print(f"[bold]$ kubectl -n {NAMESPACE} apply -f {file.relative_to(ROOT)}[/]")
    # As in the file, but for the store's address, which is another in a cluster of the user's own.
    wanted["metadata"]["namespace"] = NAMESPACE
    wanted["spec"]["store"]["endpoint"] = stack.endpoint
    stack.apply(wanted)


def watch(stack: Stack, kind: str, name: str, started: float) -> bool:
    """Shows the run until it is complete; False, with the reason shown, when it cannot complete."""
    with Live(console=console, refresh_per_second=4, transient=not console.is_terminal) as live:
        deadline = time.monotonic() + DEADLINE
        shown = ""
        while time.monotonic() < deadline:
            status = stack.get("-n", NAMESPACE, kind, name).get("status", {})
            conditions = {
                c["type"]: c for c in status.get("conditions", []) if c["status"] == "True"
            }
            if console.is_terminal:
                live.update(picture(kind, status, started))
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
        f"[red]not complete after {DEADLINE} s: kubectl -n {NAMESPACE} describe {kind} {name}[/]"
    )
    return False


def picture(kind: str, status: Manifest, started: float) -> Table:
    """The steps as a table."""
    table = Table(title=f"{TITLES[kind]} · {clock(started)}", title_justify="left", expand=False)
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


def compare(stack: Stack, started: float) -> Manifest | None:
    """Evaluates the adapter beside the base model, and fetches the report; the status, or None with
    the reason shown."""
    evaluation = yaml.safe_load(EXAMPLE_EVALUATION.read_text())
    apply(stack, evaluation, EXAMPLE_EVALUATION)
    name = evaluation["metadata"]["name"]
    if not watch(stack, "wev", name, started):
        return None
    status: Manifest = stack.get("-n", NAMESPACE, "wev", name)["status"]
    [step] = [step for step in status["steps"] if step["name"] == "compare"]
    fetch_step(stack, step)
    console.print(f"[bold]{status['decision']}[/]: {status['message']}", highlight=False)
    return status


def serve(stack: Stack, compared: Manifest, started: float) -> Service:
    """The service of the evaluation's winner, once it takes videos."""
    wanted = manifest(stack, NAMESPACE, "demo")
    if compared.get("winner") == "driver":
        [adapter] = wanted["spec"]["adapters"]
        wanted["spec"]["adapters"] = [
            {"name": adapter["name"], "fromEvaluation": {"name": "demo", "candidate": "winner"}}
        ]
    console.print(f"[bold]$ kubectl -n {NAMESPACE} apply -f {EXAMPLE_SERVICE.relative_to(ROOT)}[/]")
    stack.apply(wanted)
    service = Service(stack, NAMESPACE, "demo")
    shown, deadline = "", time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        status = service.status()
        true = {c["type"]: c for c in status.get("conditions", []) if c["status"] == "True"}
        telling = next(iter(true.values()), {"type": "Pending", "reason": "", "message": ""})
        line = f"{telling['type']} {telling['reason']} · {telling['message']}"
        if line != shown:
            console.print(f"[dim]{clock(started)}[/] {line}", highlight=False)
            shown = line
        # Not by an earlier demo's adapter.
        if telling["type"] == "Ready" and status.get("rollout") is None and is_followed(status):
            return service
        time.sleep(1)
    raise TimeoutError(f"no worker after {DEADLINE} s: kubectl -n {NAMESPACE} describe wis demo")


def is_followed(status: Manifest) -> bool:
    return any(each.get("readyWorkers") for each in status.get("adapters", []))


def film(service: Service, started: float) -> None:
    """A video by the SDK, and the studio with it in a browser."""
    picture = OUTPUT / "first-frame.png"
    first_frame(picture)
    with service.reached() as url:
        said = make_video(service, url, picture, OUTPUT / "served.mp4", "in-the-car")
        console.print(f"[dim]{clock(started)}[/] examples/make_video.py: {said.splitlines()[-1]}")
        photograph(url, service.stack.api_key, OUTPUT / "studio.png")


def first_frame(path: Path) -> None:
    """Of the held-out end of the clip, which the run was not trained on."""
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder), CUTS[-1:])
        clip = next(Path(folder).rglob("*.mp4"))
        with av.open(str(clip)) as container:
            next(container.decode(video=0)).to_image().save(path)


def photograph(url: str, key: str, path: Path) -> None:
    """The studio as a user of it sees it."""
    options = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"{url}/studio/")
        page.get_by_label("API key").fill(key)
        page.get_by_role("button", name="Enter").click()
        expect(page.locator(".play img").first).to_be_visible(timeout=60_000)
        page.screenshot(path=path)
        browser.close()


def conclude(stack: Stack, name: str, service: Service, started: float) -> None:
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
        "Look at contact-sheet.png, demo-loss.png, report.html, served.mp4 and studio.png.",
        highlight=False,
    )
    console.print(
        f"The studio: {service.cluster_url}/studio/ with the key {stack.api_key}; from elsewhere\n"
        f"  {kubectl} port-forward service/{service.name} 8080:80   # http://127.0.0.1:8080/studio/",
        highlight=False,
    )
    console.print("Then try:")
    for command in (
        f"export PATH={stack.bin}:$PATH",
        f"{kubectl} describe wft {name}",
        f"{kubectl} describe wev demo",
        f"{kubectl} describe wis {service.name}",
        f"{kubectl} get events --sort-by=.lastTimestamp",
        f"{kubectl} apply -f examples/invalid/sage.yaml      # refused, and why",
        "make cluster-down",
    ):
        console.print(f"  {command}", highlight=False)


if __name__ == "__main__":
    sys.exit(status_of(main))
