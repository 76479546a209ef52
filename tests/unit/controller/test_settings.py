"""Settings: every variable documented, every bad value refused by name."""

from __future__ import annotations

import ast
import dataclasses
import gc
import inspect
import json
import sys
from importlib.abc import MetaPathFinder

import pytest

from wan_operator import settings as module
from wan_operator.cli import main
from wan_operator.settings import Settings, SettingsError

LEAST = {
    "WAN_RUNTIME_IMAGE": "registry.example/wan:1",
    "WAN_OPERATOR_IMAGE": "registry.example/wan-operator:1",
    "WAN_NAMESPACE": "wan-system",
}


def test_three_variables_are_enough() -> None:
    settings = Settings.from_env(LEAST)
    assert settings.watch_namespaces == ()
    assert settings.identity, "the host's name"
    assert set(settings.show()) == {f.metadata["variable"] for f in dataclasses.fields(Settings)}


@pytest.mark.parametrize("variable", LEAST)
@pytest.mark.parametrize("value", [None, ""])
def test_what_has_no_default_is_asked_for_by_name(variable: str, value: str | None) -> None:
    environ = {**LEAST, variable: value} if value is not None else dict(LEAST)
    if value is None:
        del environ[variable]
    with pytest.raises(SettingsError, match=f"{variable} is not set: must be"):
        Settings.from_env(environ)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WAN_RUNTIME_IMAGE", "two words"),
        ("WAN_OPERATOR_IMAGE", "two words"),
        ("WAN_DATABASE_SECRET", "Wan_Database"),
        ("WAN_IMAGE_PULL_POLICY", "Sometimes"),
        ("WAN_STORE_ENDPOINT", "minio:9000"),
        ("WAN_STORE_ENDPOINT", "http://minio:9000/"),
        ("WAN_STORE_BUCKET", "No"),
        ("WAN_STORE_PREFIX", "/a"),
        ("WAN_STORE_PREFIX", "a/"),
        ("WAN_STORE_SECRET", "Not_A_Name"),
        ("WAN_GPU_TYPE", "no type"),
        ("WAN_GPU_TYPE", "H1000"),
        ("WAN_GPU_CATALOGUE", "H100"),
        ("WAN_GPU_CATALOGUE", '[{"name": "x", "memoryGib": 80}]'),
        ("WAN_WATCH_NAMESPACES", "a,B"),
        ("WAN_HEALTH_PORT", "99999"),
        ("WAN_HEALTH_PORT", "tcp://10.0.0.1:80"),
        ("WAN_LEASE_SECONDS", "1"),
        ("WAN_LOG_LEVEL", "debug"),
        ("WAN_LOG_FORMAT", "xml"),
        ("WAN_WORKERS", "0"),
        ("WAN_WORKERS", "2.5"),
        ("WAN_WRITES_PER_SECOND", "nan"),
        ("WAN_SWEEP_SECONDS", "0"),
        ("WAN_PROGRESS_SECONDS", "-1"),
    ],
)
def test_a_bad_value_is_refused_with_its_name_and_what_would_be_right(
    variable: str, value: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({**LEAST, variable: value})
    assert str(caught.value).startswith(f"{variable} is {json.dumps(value)}: must ")


def test_the_gpu_type_may_be_one_of_the_clusters_own() -> None:
    entry = (
        '[{"name": "ours", "memoryGib": 40, "bf16Tflops": 1, "bandwidthGbs": 1, "pricePerHour": 1}]'
    )
    settings = Settings.from_env({**LEAST, "WAN_GPU_CATALOGUE": entry, "WAN_GPU_TYPE": "ours"})
    assert settings.default_gpu is not None
    assert settings.default_gpu.memory_gib == 40
    assert settings.show()["WAN_GPU_CATALOGUE"].startswith("A100-40GB,")
    assert Settings.from_env(LEAST).default_gpu is None


def test_an_empty_value_is_the_default() -> None:
    """A chart writes one for an empty Helm value."""
    empty = {f.metadata["variable"]: "" for f in dataclasses.fields(Settings)}
    assert Settings.from_env({**empty, **LEAST}) == Settings.from_env(LEAST)


def test_every_setting_says_its_default_and_why() -> None:
    (made,) = [
        node
        for node in ast.parse(inspect.getsource(module)).body
        if isinstance(node, ast.ClassDef) and node.name == "Settings"
    ]
    for field, following in zip(made.body, made.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign):
            assert isinstance(following, ast.Expr), ast.unparse(field)
            assert isinstance(following.value, ast.Constant)
            assert "efault" in following.value.value, ast.unparse(field)


def test_the_command_line_exits_with_two(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WAN_NAMESPACE", "wan-system")
    monkeypatch.delenv("WAN_RUNTIME_IMAGE", raising=False)
    assert main(["run"]) == 2
    assert "WAN_RUNTIME_IMAGE is not set" in capsys.readouterr().err
    monkeypatch.setenv("WAN_RUNTIME_IMAGE", "x")
    monkeypatch.setenv("WAN_OPERATOR_IMAGE", "x")
    assert main(["run", "--show-settings"]) == 0
    assert "WAN_SWEEP_SECONDS=300.0" in capsys.readouterr().out


def test_nothing_is_collected_while_the_operator_is_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Seen(MetaPathFinder):
        def find_spec(self, name: str, *_: object) -> None:
            if name == "wan_operator.process":
                raise SystemExit(gc.isenabled())

    for variable, value in LEAST.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delitem(sys.modules, "wan_operator.process", raising=False)
    monkeypatch.delattr("wan_operator.process", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Seen(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        main(["run"])
    gc.unfreeze()  # what other tests hold is theirs to be rid of
    assert ended.value.code is False
    assert gc.isenabled()
