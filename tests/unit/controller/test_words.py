"""What the operator says of its surroundings: kubeconfigs, the API server's answers and absence,
its settings, its port. Words of ours, with the field and what would be right."""

from __future__ import annotations

import asyncio
import base64
import errno
import socket
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from tests.words import library_words

from wan_operator import process
from wan_operator.answers import content, refusal, why_unreachable
from wan_operator.errors import PermanentError, TransientError
from wan_operator.health import Health, PortUnusable
from wan_operator.kubeconfig import KubeconfigError, connect
from wan_operator.lease import LeaseLostError
from wan_operator.metrics import Metrics
from wan_operator.settings import Settings, SettingsError

SERVER = "https://127.0.0.1:1"
NOT_PEM = base64.b64encode(b"no certificate").decode()


def kubeconfig(cluster: Any = None, user: Any = None, **fields: Any) -> bytes:
    content = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "lab", "user": "me"}}],
        "clusters": [
            {"name": "gone", "cluster": {"certificate-authority": "/gone"}},
            {"name": "lab", "cluster": {"server": SERVER} if cluster is None else cluster},
        ],
        "users": [{"name": "me", "user": {"token": "secret"} if user is None else user}],
    }
    return yaml.safe_dump(content | fields).encode()


def plugin(command: str) -> dict[str, Any]:
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": command}}


KUBECONFIGS: list[tuple[bytes, str]] = [
    (b"", "must be an object, not null"),
    (b"hello", 'must be an object, not "hello"'),
    (b"a: [", "is no YAML at line 1, column 5: a value is missing"),
    (b"a: \0", "is no YAML at line 1, column 4: it holds a NUL byte"),
    (b"a: \xe9", "is no YAML at line 1: it is no text in UTF-8 or UTF-16: save it as UTF-8"),
    (kubeconfig(**{"current-context": ""}), "current-context: is missing"),
    (
        kubeconfig(**{"current-context": "x"}),
        'must be one of the contexts (here), not "x"',
    ),
    (kubeconfig(contexts=[{"name": "here"}]), "contexts: here: context: must be an object, not nu"),
    (kubeconfig(clusters="lab"), 'clusters: must be a list, not "lab"'),
    (
        kubeconfig(clusters=[]),
        'cluster: must be one of the clusters (there are none), not "la',
    ),
    (kubeconfig(users=None), 'here: user: must be one of the users (there are none), not "me"'),
    (kubeconfig(cluster={}), "clusters: lab: cluster.server: is missing"),
    (kubeconfig(cluster={"server": 5}), "clusters: lab: cluster.server: must be text, not 5"),
    (
        kubeconfig(cluster={"server": "lab:6443"}),
        "cluster.server: must have the form ^https?:",
    ),
    (
        kubeconfig(cluster={"server": SERVER, "certificate-authority": "ca.crt"}),
        "clusters: lab: cluster.certificate-authority: there is no file ca.crt",
    ),
    (
        kubeconfig(cluster={"server": SERVER, "certificate-authority-data": NOT_PEM}),
        "cluster lab or user me has a certificate or key that is no PEM",
    ),
    (kubeconfig(user="me"), 'users: me: user: must be an object, not "me"'),
    (kubeconfig(user={"tokenFile": "/gone"}), "users: me: user.tokenFile: there is no file /gone"),
    (
        kubeconfig(user={"client-certificate-data": NOT_PEM, "client-key-data": NOT_PEM}),
        "cluster lab or user me has a certificate or key that is no PEM",
    ),
    (
        kubeconfig(user=plugin("no-such-command")),
        'exec.command "no-such-command" gives no token',
    ),
    (
        kubeconfig(user=plugin("false")),
        'me: exec.command "false" gives no token: try it by ha',
    ),
    (
        kubeconfig(user={"auth-provider": {"name": "oidc", "config": {"id-token": "x"}}}),
        "cluster lab or user me cannot be used: can kubectl use them?",
    ),
]


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


@pytest.mark.parametrize(("written", "message"), KUBECONFIGS, ids=[each for _, each in KUBECONFIGS])
async def test_a_kubeconfig_that_cannot_be_used_is_named_with_the_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bytes, message: str
) -> None:
    file = tmp_path / "config"
    file.write_bytes(written)
    monkeypatch.setenv("KUBECONFIG", str(file))
    with pytest.raises(KubeconfigError) as caught:
        await connect()
    said = str(caught.value)
    assert said.startswith(str(file))
    assert message in said
    assert library_words(said.replace(str(file), "")) == []


async def test_parts_of_several_kubeconfigs_are_put_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = yaml.safe_load(kubeconfig(user={"tokenFile": "token"}))
    (tmp_path / "a").write_text(yaml.safe_dump({"users": whole.pop("users")}))
    (tmp_path / "b").write_text(yaml.safe_dump(whole))
    (tmp_path / "token").write_text("secret")
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/a:{tmp_path}/gone:{tmp_path}/b")
    made = await connect()
    assert made.configuration.host == SERVER
    assert made.configuration.api_key == {"BearerToken": "Bearer secret"}
    await made.close()


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"KUBECONFIG": "/gone/config"}, "there is no kubeconfig at /gone/config: set KUBECONFIG"),
        ({"KUBECONFIG": "x" * 300}, "there is no kubeconfig at xxx"),
        ({"HOME": "/gone"}, "there is no kubeconfig at ~/.kube/config: set KUBECONFIG"),
        (
            {"HOME": "/gone", "KUBERNETES_SERVICE_HOST": "10.0.0.1"},
            "no service account token: set automountServiceAccountToken: true",
        ),
    ],
)
async def test_no_access_at_all(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], message: str
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(KubeconfigError) as caught:
        await connect()
    assert message in str(caught.value)


LEAST = {"WAN_RUNTIME_IMAGE": "a", "WAN_OPERATOR_IMAGE": "b", "WAN_NAMESPACE": "wan"}


async def test_the_start_ends_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/gone/config")
    settings = Settings.from_env({**LEAST, "WAN_HEALTH_PORT": "0"})
    with pytest.raises(SystemExit, match="wan-operator: there is no kubeconfig at /gone"):
        await process.run(settings)
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        settings = Settings.from_env({**LEAST, "WAN_HEALTH_PORT": str(port)})
        with pytest.raises(SystemExit) as ended:
            await process.run(settings)
    assert ended.value.code == (
        f"wan-operator: WAN_HEALTH_PORT is {port}: another process has it: choose a free one"
    )


@pytest.mark.parametrize("number", [errno.EADDRINUSE, errno.EACCES, errno.EAFNOSUPPORT])
def test_a_port_that_is_refused_is_named(number: int) -> None:
    error = OSError(number, "error while attempting to bind on address ('0.0.0.0', 80)")
    said = str(PortUnusable(80, error))
    assert said.startswith("WAN_HEALTH_PORT is 80: ")
    assert "0.0.0.0" not in said
    assert library_words(said) == []


HTML = b"<html><body>Sign in</body></html>"
STATUS = b'{"kind": "Status", "reason": "Forbidden", "message": "secrets is forbidden"}'


@pytest.mark.parametrize(
    ("status", "text", "kind", "message"),
    [
        (200, HTML, TransientError, "GET /x: the answer is not the API server's: is there a proxy"),
        (200, b"", TransientError, "GET /x: the answer is not the API server's"),
        (200, b"[1]", TransientError, "GET /x: the answer is not the API server's"),
        (200, b'{"ok": true}', TransientError, "GET /x: the answer is not the API server's"),
        (200, b"\xff", TransientError, "GET /x: the answer is not the API server's"),
        (403, HTML, PermanentError, "GET /x: 403 the answer is not the API server's"),
        (403, STATUS, PermanentError, "secrets is forbidden"),
        (404, b"404 page not found\n", PermanentError, "404 the API server does not know this pa"),
        (422, b"null", PermanentError, "GET /x: 422 the answer is not the API server's"),
        (422, b'{"message": null}', PermanentError, "GET /x: 422 the answer is not"),
        (502, HTML, TransientError, "GET /x: 502 the answer is not the API server's"),
        (504, b"[" * 100_000, TransientError, "GET /x: 504 the answer is not the API server's"),
    ],
)
def test_an_answer_that_is_not_the_api_servers(
    status: int, text: bytes, kind: type[Exception], message: str
) -> None:
    error: Exception = refusal(status, text, None, "GET /x")
    if status < 400:
        with pytest.raises(TransientError) as caught:
            content(text, "GET /x")
        error = caught.value
    said = str(error)
    assert type(error) is kind
    assert message in said
    assert "<html" not in said
    assert library_words(said) == []


KEY: Any = type("Key", (), {"host": "lab", "port": 6443, "ssl": True, "is_ssl": True})()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (TimeoutError(), "no answer in time"),
        (aiohttp.ConnectionTimeoutError("Connection timeout to host"), "no answer in time"),
        (aiohttp.ServerDisconnectedError(), "the connection ended before the answer"),
        (aiohttp.ClientPayloadError("Response payload"), "the connection ended before the answer"),
        (ConnectionResetError(104, "reset by peer"), "the connection ended before the answer"),
        (aiohttp.ClientOSError(32, "Broken pipe"), "the connection ended before the answer"),
        (aiohttp.InvalidURL("zz"), "the server's address is no URL"),
        (aiohttp.ClientConnectorError(KEY, OSError(111, "")), "nothing answers at lab:6443"),
        (aiohttp.ClientConnectorDNSError(KEY, OSError(-2, "")), "there is no host lab"),
        (
            aiohttp.ClientConnectorCertificateError(KEY, ssl.SSLCertVerificationError("x")),
            "its certificate is not trusted: check the certificate authority and the host name",
        ),
        (
            aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, "WRONG_VERSION_NUMBER")),
            "it does not speak TLS: is the address one of http, not https?",
        ),
    ],
)
def test_an_answer_that_never_came(error: Exception, message: str) -> None:
    assert why_unreachable(error) == message


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("WAN_WORKERS", "x", "must be a whole number from 1 to 64"),
        ("WAN_WORKERS", "1.5", "must be a whole number from 1 to 64"),
        ("WAN_WORKERS", "9" * 5000, "must be a whole number from 1 to 64"),
        ("WAN_HEALTH_PORT", "http", "must be a port number, or 0 for a free one"),
        ("WAN_LEASE_SECONDS", "15s", "must be a whole number of seconds from 5 to 300"),
        ("WAN_SWEEP_SECONDS", "inf", "must be a number of seconds from 1 to 86400"),
        ("WAN_WRITES_PER_SECOND", "1e400", "must be a number from 0.1 to 1000"),
        ("WAN_GPU_CATALOGUE", "[", "gpuCatalogue: is JSON without its end: was it cut off?"),
        ("WAN_GPU_CATALOGUE", "[" * 5000, "gpuCatalogue: is JSON that is nested too deeply"),
        ("WAN_GPU_CATALOGUE", "- name: a", "gpuCatalogue: is no JSON at line 1, column 2"),
        ("WAN_GPU_CATALOGUE", '[{"name": 5}]', "gpuCatalogue[0].name: must be text, not 5"),
        ("WAN_MODEL_CACHE", "../cache", "must be the name of a PersistentVolumeClaim or an absol"),
    ],
)
def test_a_setting_that_cannot_be_used(variable: str, value: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({**LEAST, variable: value})
    said = str(caught.value)
    assert said.startswith(f"{variable} is ")
    assert message in said
    assert len(said) < 700
    assert library_words(said) == []


async def test_the_health_server_frees_what_it_cannot_use() -> None:
    with socket.create_server(("", 0)) as taken, pytest.raises(PortUnusable):
        await Health(Metrics()).serve(taken.getsockname()[1])
    assert [each for each in asyncio.all_tasks() if each is not asyncio.current_task()] == []


@pytest.mark.parametrize(
    ("error", "said", "where"),
    [
        (LeaseLostError("Lease wan could not be renewed"), "Lease wan could not be renewed", False),
        (ExceptionGroup("unhandled errors in a TaskGroup", [KeyError("spec")]), "a bug", True),
    ],
)
async def test_the_end_of_a_part_says_why_and_a_bug_where(
    caplog: pytest.LogCaptureFixture, error: Exception, said: str, where: bool
) -> None:
    async def fails() -> None:
        raise error

    task = asyncio.create_task(fails(), name="controller")
    await asyncio.wait({task})
    process.log_end(task)
    [record] = caplog.records
    fields = vars(record)
    assert (fields["part"], fields["error"]) == ("controller", said)
    assert ("KeyError: 'spec'" in caplog.text) is where
