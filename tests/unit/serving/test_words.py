"""What gateways, workers and stores say of their surroundings: keys, hooks, settings, servers that
give no answer. Words for people, with what would be right, and never a secret."""

from __future__ import annotations

import argparse
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from ports import free_port
from running_gateway import RunningGateway
from unit.serving.test_gateway import ask, error
from unit.serving.test_moderation import Hook, answering
from wan_runtime.artifacts.patience import Patience
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.job import StoreSpec
from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InfrastructureError, InputError, StepError
from wan_runtime.process.pages import Pages, chosen_port
from wan_runtime.serving import start
from wan_runtime.serving.gateway.keys import Keys
from wan_runtime.serving.problems import Refusal
from wan_runtime.serving.queue import database
from wan_runtime.serving.queue.refusals import refusal
from wan_runtime.serving.worker import command
from words import library_words

pytest_plugins = ["gateway_fixtures"]
SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "there is none, so every request is refused: add one to the Secret"),
        ({"app": b""}, "app is empty, so no request matches it: write one line of A-Z"),
        ({"app": b" \r\n\t"}, "app is empty"),
        ({"app": b"s3cr3t\nother"}, "app has several lines"),
        ({"app": b"s3cr3t\xff"}, "app holds the byte 0xff at 7, which no header of a request"),
        ({"app": "s3cr3t\u00e9".encode()}, "app holds the byte 0xc3 at 7"),
        ({"app": b"\xef\xbb\xbfs3cr3t"}, "app holds the byte 0xef at 1"),
        ({"app": b"s3cr\0et"}, "app holds the byte 0x00 at 5"),
        ({"app": b"s3cr3t", "team": b"s3cr3t\n"}, "app and team are equal, so requests of both c"),
    ],
)
def test_keys(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, files: dict[str, bytes], words: str
) -> None:
    for name, key in files.items():
        (tmp_path / name).write_bytes(key)
    keys = Keys(tmp_path, "uid-1")
    for _ in range(2):
        with pytest.raises(Refusal):
            keys.caller("Bearer wan-other")
    assert [each.getMessage() for each in caplog.records] == [caplog.messages[0]], "said once"
    assert words in caplog.text
    assert not library_words(caplog.messages[0])
    assert SECRET not in caplog.text


def test_keys_that_are_mended_are_said_again_when_they_break(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = Keys(tmp_path, "uid-1")
    for key in (b"", b"good", b""):
        (tmp_path / "app").write_bytes(key)
        keys.check()
    assert len(caplog.records) == 2


@pytest.fixture(scope="module")
def moderated() -> Iterator[Hook]:
    with answering() as hook:
        yield hook


ANSWERS = [
    (500, b"", "it answered with status 500, not 200"),
    (200, b"", "its answer is no JSON in UTF-8"),
    (200, b"yes", "its answer is no JSON in UTF-8"),
    (200, b'{"allowed": true, "reason": "\xff"}', "its answer is no JSON in UTF-8"),
    (200, b"[" * 10_000, "its answer is no JSON in UTF-8"),
    (200, b"[]", "its answer must be an object, not []"),
    (200, b'[["allowed", true]]', "its answer must be an object"),
    (200, b"{}", "its answer allowed: is missing"),
    (200, b'{"allowed": "false"}', 'its answer allowed: must be true or false, not "false"'),
    (200, b'{"allowed": 1}', "its answer allowed: must be true or false, not 1"),
    (200, b'{"allowed": null}', "its answer allowed: must be true or false, not null"),
]


def test_answers_of_moderation(
    make_gateway: Callable[..., RunningGateway], moderated: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    """Text such as "false" once counted as true."""
    gateway = make_gateway(moderation={"url": moderated.url, "on_error": "Refuse"})
    with gateway.http() as http:
        for status, body, words in ANSWERS:
            moderated.answer = (status, body)
            refused = ask(http)
            assert error(refused) == (503, "service_unavailable", None)
            message = refused.json()["error"]["message"]
            assert message.startswith(f"moderation does not answer: {words}")
            assert not library_words(message)
            assert words in caplog.text
        moderated.answer = (200, b'{"allowed": false, "reason": "a \\ud83d face\\u0000"}')
        said = ask(http).json()["error"]["message"]
        assert said == "refused by moderation: a \\ud83d face\ufffd"
        for reason in (b"7", b"null", b'["a"]'):
            moderated.answer = (200, b'{"allowed": false, "reason": ' + reason + b"}")
            assert error(ask(http)) == (400, "moderation_refused", None)
        assert not http.get("/v1/videos").json()["data"]


def test_moderation_that_is_not_there(
    make_gateway: Callable[..., RunningGateway], caplog: pytest.LogCaptureFixture
) -> None:
    hook = {"url": f"http://127.0.0.1:{free_port()}/check", "on_error": "Allow"}
    with make_gateway(moderation=hook).http() as http:
        assert ask(http).status_code == 200
    assert "no verdict of spec.moderation on video_" in caplog.text
    assert "nothing listens there" in caplog.text


SERVICE_FILES: list[tuple[bytes | None, str]] = [
    (None, "cannot be read: No such file or directory"),
    (b"", "is empty"),
    (b"{", "is JSON without its end"),
    (b"kind: Service", "is no JSON at line 1"),
    (b"\xff\xfe{\0}\0", "is no JSON at line 1"),
    (b"[]", "must be an object, not []"),
    (b"null", "must be an object, not null"),
    (b"{}", "namespace: is missing"),
    (b'{"namespace": 7}', "namespace: must be text, not 7"),
    (b'{"sizes": "all"}', 'sizes: must be a list, not "all"'),
]


@pytest.mark.parametrize(("content", "words"), SERVICE_FILES)
def test_service_files(tmp_path: Path, content: bytes | None, words: str) -> None:
    file = tmp_path / "service.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError) as refused:
        start.given(argparse.Namespace(service=file))
    assert f"service file {file}" in refused.value.message
    assert words in refused.value.message
    assert not library_words(refused.value.message)


@pytest.mark.parametrize("port", ["", "abc", "-1", "65536", "9400 ", "\u0663", "9" * 5000, "0x10"])
def test_ports(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    monkeypatch.setenv("WAN_PROGRESS_PORT", port)
    with pytest.raises(InputError, match=r"^WAN_PROGRESS_PORT must be a port from 0 to") as refused:
        chosen_port()
    assert len(refused.value.message) < 150


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InfrastructureError) as refused:
            Pages({}, port)
    assert refused.value.message == (
        f"port {port} (WAN_PROGRESS_PORT): address already in use; choose a free one"
    )


def test_a_work_folder_that_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WAN_TERMINATION_FILE", str(tmp_path / "words"))
    (tmp_path / "work").touch()
    assert command.run(argparse.Namespace(work=tmp_path / "work/inner")) == 10
    assert (tmp_path / "words").read_text() == (
        f"--work {tmp_path}/work/inner: not a directory; name a folder that can be written to"
    )


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


def opened(endpoint: str = "http://127.0.0.1:1", bucket: str = "wan", **more: str) -> StepError:
    spec = StoreSpec(endpoint=endpoint, bucket=bucket, **more)
    with pytest.raises(InfrastructureError) as refused:
        Store.connect(spec, patience=Patience(seconds=0)).get_bytes("key")
    assert not library_words(refused.value.message), refused.value.message
    assert SECRET not in refused.value.message
    return refused.value


@pytest.mark.parametrize(
    "endpoint",
    [
        "", "host", "http://host:abc", "http://[::1", "http://user:pw@host", "http://host?x=1",
        "http://host:99999", "http://ho st", "http://a..b", "http://host#f", "http://\u2100",
        "https://host:1 ", "ftp://host", "http://host/path", "http://host:0",
    ],
)  # fmt: skip
def test_endpoints(credentials: None, endpoint: str) -> None:
    assert "is not http(s)://host[:port]" in opened(endpoint).message


@pytest.mark.parametrize("bucket", ["", "b", "a..b", "1.2.3.4", "a/b", "a b", "x" * 64, "-ab"])
def test_buckets(credentials: None, bucket: str) -> None:
    refused = opened(bucket=bucket)
    assert refused.reason is Reason.STORE_NOT_FOUND
    assert "names no bucket: 3 to 63 of the characters" in refused.message


@pytest.mark.parametrize("key", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])
@pytest.mark.parametrize("odd", ["s3cr\u00e9t", "s3\ncr3t", "\udcff"])
def test_credentials(
    credentials: None, monkeypatch: pytest.MonkeyPatch, key: str, odd: str
) -> None:
    monkeypatch.setenv(key, odd)
    refused = opened()
    assert refused.reason is Reason.STORE_ACCESS_DENIED
    assert f"({key} here)" in refused.message
    assert refused.message.endswith(": write the key alone")


@pytest.mark.parametrize("content", [b"", b"hello", b"-----BEGIN CERTIFICATE-----\nx\n", b"\0"])
def test_certificate_authorities(credentials: None, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ca.crt").write_bytes(content)
    refused = opened("https://127.0.0.1:1", ca_file=str(tmp_path / "ca.crt"))
    assert refused.message.endswith("ca.crt of the store holds no certificate in PEM")


class Foreign:
    """A server of another protocol: gives `said` to whoever connects, and hangs up."""

    def __init__(self, said: bytes) -> None:
        self._said = said
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while True:
                peer, _ = self._listener.accept()
                with peer:
                    peer.recv(4096)
                    peer.sendall(self._said)
        except OSError:  # closed
            pass

    def __enter__(self) -> Foreign:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.mark.parametrize(
    ("said", "scheme", "words"),
    [
        (b"", "http", "the connection ended before the answer"),
        (b"SSH-2.0\r\n", "http", "what answers there is no HTTP server"),
        (b"HTTP/1.1 200 OK\r\n\r\n<html>", "https", "it does not speak TLS: is the address one"),
        (b"HTTP/1.1 503 Away\r\nContent-Length: 0\r\n\r\n", "http", "S3 API, but with status 503"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhtml", "http", "the connection ended"),
        (
            b"HTTP/1.1 404 No\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
            "http",
            "does not answer as an S3 API, but with status 404: is it the right port?",
        ),
    ],
)
def test_servers_that_are_no_stores(
    credentials: None, said: bytes, scheme: str, words: str
) -> None:
    with Foreign(said) as server:
        assert words in opened(f"{scheme}://127.0.0.1:{server.port}", region="us-east-1").message


def test_stores_that_are_not_there(credentials: None) -> None:
    assert opened(f"http://127.0.0.1:{free_port()}").message.endswith("nothing listens there")
    assert opened("http://no-such-host.invalid").message.endswith("its host name does not resolve")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(111, "Connect call failed ('::1', 1)"), "nothing listens there"),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed"), "nothing listens there"),
        (socket.gaierror(-2, "Name or service not known"), "its host name does not resolve"),
        (TimeoutError(), "no answer in time"),
        (OSError(113, "No route to host"), "no route to host"),
        (ConnectionResetError(104, "x"), "the connection ended before the answer"),
        (ConnectionError("unexpected connection_lost() call"), "the connection ended before the"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] (_ssl.c:1006)"), "it does not speak TLS"),
        (ssl.SSLCertVerificationError(1, "self-signed"), "its certificate is not trusted"),
        (asyncpg.InterfaceError("connection is closed"), "the connection ended before the answer"),
        (asyncpg.InternalClientError("got result for unknown"), "the connection ended before"),
        (asyncpg.CannotConnectNowError("the database system is starting up"), "the database sys"),
    ],
)
def test_databases_that_give_no_answer(error: Exception, words: str) -> None:
    assert database.reason_of(error).startswith(words)


def test_a_pooler_in_front_of_the_database() -> None:
    said = refusal(asyncpg.ProtocolViolationError("unsupported startup parameter: search_path"))
    assert said is not None
    assert "name PostgreSQL itself, not a pooler such as PgBouncer, in WAN_DATABASE_URL" in said
