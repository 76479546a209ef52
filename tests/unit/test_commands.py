"""Every command that the documents show is one that its program takes; all say what they are for.

What `kubectl wan plan` prints in them is compared in test_kubectl_plan.py; the commands that need
neither a cluster nor a bucket are run here.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from wan_operator import cli as operator
from wan_operator.kubectl import __main__ as kubectl
from wan_runtime import __main__ as entry
from wan_runtime import cli as runtime
from wan_runtime.models import layout, load
from wan_runtime.presets import PRESETS

ROOT = Path(__file__).parents[2]
PAGES = tuple(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "charts/*/README.md")
    for path in sorted(ROOT.glob(pattern))
)
FENCED = re.compile(r"^```(?:console|bash|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:wan-runtime|wan-operator|kubectl[ -]wan|make) [^`=]+)`")
FOREIGN = {
    "cd", "curl", "docker", "eval", "export", "git", "hf", "jq", "kubectl", "mc", "pip",
    "pre-commit", "python3", "tar", "tensorboard",
}  # fmt: skip
"""Programs of others: of their arguments, only the files of this repository are looked at."""
PROGRAMS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "wan-runtime": runtime.parser,
    "wan-operator": operator.parser,
    "kubectl-wan": kubectl.parser,
}
MAIN: dict[str, Callable[[list[str]], int]] = {
    "wan-runtime": runtime.main,
    "wan-operator": operator.main,
    "kubectl-wan": kubectl.main,
}


def split(line: str) -> Iterator[list[str]]:
    """The commands of a line, `kubectl wan` as the program that it is."""
    words = [";" if word in ("&&", "&", "|") else word for word in shlex.split(line, comments=True)]
    while words:
        end = words.index(";") if ";" in words else len(words)
        command, words = words[:end], words[end + 1 :]
        if command[:2] == ["kubectl", "wan"]:
            command[:2] = ["kubectl-wan"]
        if command:
            yield command


def shown(text: str) -> Iterator[list[str]]:
    """The commands of a page's console blocks."""
    for block in FENCED.findall(text):
        lines = block.replace("\\\n", " ").splitlines()
        if any(line.startswith("$ ") for line in lines):  # the others are what these print
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        for line in lines:
            yield from split(line)


def named(text: str) -> Iterator[list[str]]:
    """What its sentences name: a command without all of its arguments."""
    for command in INLINE.findall(text):
        yield from split(command.replace(" …", ""))


def below(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Its commands, those of `wan-operator crds` apart: they are another program's."""
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= action.choices
    return found


def every(parser: argparse.ArgumentParser) -> Iterator[list[str]]:
    """All of its commands, as words."""
    yield []
    for name, child in below(parser).items():
        yield from ([name, *words] for words in every(child))


TEXTS = [(ROOT / page).read_text() for page in PAGES]
SHOWN = [command for text in TEXTS for command in shown(text)]
NAMED = [command for text in TEXTS for command in named(text)]
HELP = [(program, words) for program, parser in PROGRAMS.items() for words in every(parser())]


def line(command: list[str]) -> str:
    return shlex.join(command)[:70]


def test_commands_are_found() -> None:
    """The patterns would be of no use if the pages were written otherwise one day."""
    programs = {command[0] for command in SHOWN}
    assert programs >= {"wan-runtime", "kubectl-wan", "helm", "make", "python", "kubectl"}
    assert programs <= {*PROGRAMS, *FOREIGN, "helm", "make", "python"}
    assert {command[0] for command in NAMED} >= {"wan-runtime", "kubectl-wan", "make"}


@pytest.mark.parametrize("command", SHOWN, ids=line)
def test_a_command_that_is_shown_is_taken(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, *arguments = command
    if program in PROGRAMS:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "my-clips").mkdir()
        PROGRAMS[program]().parse_args(arguments)
    elif program == "make":
        assert arguments[0] in targets()
    elif program == "kubectl":
        assert not {"wan", "-w"} <= set(arguments), "kubectl watches one kind at a time"
    elif program == "helm":
        settings = [argument.split("=")[0] for argument in arguments if "=" in argument]
        assert set(settings) <= chart_values()
    elif program == "python":
        options = [argument for argument in arguments if argument.startswith("--")]
        script = (ROOT / arguments[0]).read_text()
        assert [option for option in options if f'"{option}"' not in script] == []
    for argument in arguments:
        if argument.startswith(("examples/", "images/", "charts/")):
            assert (ROOT / argument).exists(), argument


@pytest.mark.parametrize("command", NAMED, ids=line)
def test_a_command_that_is_named_is_there(command: list[str]) -> None:
    program, *arguments = command
    if program == "make":
        assert arguments[0] in targets()
        return
    parser = PROGRAMS[program]()
    while arguments and arguments[0] in below(parser):
        parser = below(parser)[arguments.pop(0)]
    options = {option for action in parser._actions for option in action.option_strings}
    assert not below(parser), f"{shlex.join(command)} names no command"
    assert {each for each in arguments if each.startswith("-")} <= options


@pytest.mark.parametrize(("program", "words"), HELP)
def test_every_command_says_what_it_is_for(
    program: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        MAIN[program]([*words, "--help"])
    assert caught.value.code == 0
    told = capsys.readouterr().out
    assert told.startswith("usage: ")
    assert "--help" in told
    for example in re.findall(r"^  .*?(kubectl wan .*)$", told, re.MULTILINE):
        for command in split(example):
            PROGRAMS[command[0]]().parse_args(command[1:])


@pytest.mark.parametrize("preset", [preset for preset in PRESETS.values() if preset.tiny])
def test_a_tiny_model_is_written_and_loads(
    preset: layout.Preset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["tiny-model", "--preset", preset.name, str(tmp_path / "model")]
    assert runtime.main(command) == 0
    files = layout.locate(preset, tmp_path / "model")
    load.load_tokenizer(files)
    assert files.dits.keys() == set(preset.experts)
    before = {path: path.read_bytes() for path in files.dits[preset.experts[0]]}
    assert runtime.main(command) == 10
    assert "is not empty" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before


def test_a_tiny_model_where_no_folder_can_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    preset = "Wan2.2-I2V-Tiny"
    assert runtime.main(["tiny-model", "--preset", preset, str(tmp_path / "file")]) == 10
    assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "file").read_text() == "mine"


def test_the_generated_files_are_checked_by_the_operator(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert operator.main(["crds", "--check"]) == 0
    assert capsys.readouterr().out == ""


def test_everything_that_ci_runs_is_run() -> None:
    """Side by side or not: all parts, each one's commands in their order."""

    alone = {key: value for key, value in os.environ.items() if "MAKE" not in key}

    def commands(*goals: str) -> list[str]:
        made = subprocess.run(
            ["make", "-n", *goals], cwd=ROOT, env=alone, capture_output=True, text=True, check=True
        )
        return made.stdout.replace("nice -n 10", "").splitlines()

    whole = commands("test")
    for part in ("verify", "unit", "integration", "e2e"):
        wanted = commands(part)
        assert wanted
        assert [each for each in whole if each in wanted] == wanted, part


def targets() -> list[str]:
    return re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)


def chart_values() -> set[str]:
    """Paths as --set takes them."""

    def paths(values: object, path: str) -> Iterator[str]:
        yield path
        if isinstance(values, dict):
            for name, value in values.items():
                yield from paths(value, f"{path}.{name}".lstrip("."))

    text = (ROOT / "charts" / "wan-operator" / "values.yaml").read_text()
    return set(paths(yaml.safe_load(text), ""))


@pytest.mark.parametrize(("lacking", "named"), [("minio.api", "minio.api"), ("wan_runtime.x", "")])
def test_a_package_that_is_not_installed_is_named(
    lacking: str, named: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """But none of ours, which would be a bug."""

    def main() -> int:
        raise ModuleNotFoundError(f"No module named {lacking!r}", name=lacking)

    monkeypatch.setattr(runtime, "main", main)
    monkeypatch.setattr(entry.early, "catch", lambda: None)
    if not named:
        with pytest.raises(ModuleNotFoundError):
            entry.main()
        return
    assert entry.main() == 10
    said = capsys.readouterr().err
    assert said.startswith(f"error: wan-runtime needs the package {named}, which is not installed:")


def test_who_reads_a_plan_may_stop_reading() -> None:
    plan = ["plan", "-f", str(ROOT / "examples/finetune-minimal.yaml")]
    command = [sys.executable, "-m", "wan_operator.kubectl", *plan]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == b""
