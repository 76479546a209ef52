"""A real API server and its etcd, alone: no scheduler, no controllers, no nodes.

    with ApiServer.started(Path(os.environ["WAN_BIN"]), folder) as server:
        server.kubectl("get", "namespaces")
        server.request("GET", "/api/v1/namespaces")

Everything lies in `folder` and listens on loopback, on ports that were free at the start. Nothing
is shared with a cluster that the machine may know: HOME and KUBECONFIG of the caller are not read.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ports import free_port

BINARIES = ("etcd", "kube-apiserver", "kubectl")
START_SECONDS = 240.0
KUBECTL_SECONDS = 180.0
STOP_SECONDS = 20.0
SERVICE_CIDR = "10.96.0.0/16"


class NotStarted(Exception):
    """The API server could not be started; the text says why."""


class ApiError(Exception):
    """The API server refused a request."""

    def __init__(self, code: int, status: dict[str, Any]) -> None:
        super().__init__(f"{code} {status.get('reason')}: {status.get('message')}")
        self.code = code
        self.message: str = status.get("message", "")
        self.fields: list[str] = [
            cause.get("field", "") for cause in (status.get("details") or {}).get("causes") or []
        ]
        """Of the causes of an Invalid answer."""


@dataclass(frozen=True, kw_only=True)
class ApiServer:
    binaries: Path
    folder: Path
    port: int

    @property
    def kubeconfig(self) -> Path:
        """For an administrator."""
        return self.folder / "kubeconfig"

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @classmethod
    @contextmanager
    def started(cls, binaries: Path, folder: Path) -> Iterator[ApiServer]:
        if missing := [name for name in BINARIES if not os.access(binaries / name, os.X_OK)]:
            raise NotStarted(
                f"{binaries} (WAN_BIN) lacks {', '.join(missing)}; wanted: {', '.join(BINARIES)}"
            )
        certificates(folder)
        client, peer, secure = (free_port() for _ in range(3))
        server = cls(binaries=binaries, folder=folder, port=secure)
        server.kubeconfig.write_text(json.dumps(server._kubeconfig()))
        running: list[subprocess.Popen[bytes]] = []
        try:
            for command in (server._etcd(client, peer), server._apiserver(client)):
                running.append(server._start(command))
            server._wait_ready(running)
            yield server
        finally:
            for process in reversed(running):
                stop(process)

    def kubectl(
        self, *arguments: str, stdin: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [self.binaries / "kubectl", "--kubeconfig", self.kubeconfig, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=KUBECTL_SECONDS,
            env={"HOME": str(self.folder)},
        )
        assert not check or done.returncode == 0, (
            f"kubectl {' '.join(arguments)}: {done.stderr}{done.stdout}"
        )
        return done

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        user: str = "admin",
    ) -> Any:
        """One request, JSON in and out. Raises ApiError."""
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=30, context=self.tls(user)
        )
        with closing(connection):
            connection.request(
                method,
                path,
                body=None if body is None else json.dumps(body),
                headers={"Content-Type": content_type, "Accept": "application/json"},
            )
            answer = connection.getresponse()
            text = answer.read().decode()
            is_json = (answer.getheader("Content-Type") or "").startswith("application/json")
        content = json.loads(text) if is_json else {"message": text}
        if answer.status >= 400:
            raise ApiError(answer.status, content)
        return content

    def tls(self, user: str = "admin") -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.folder / "ca.crt")
        context.load_cert_chain(self.folder / f"{user}.crt", self.folder / f"{user}.key")
        return context

    def _etcd(self, client: int, peer: int) -> list[str]:
        return [
            "etcd",
            f"--data-dir={self.folder}/etcd",
            f"--listen-client-urls=http://127.0.0.1:{client}",
            f"--advertise-client-urls=http://127.0.0.1:{client}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",  # a crash may lose it: it is thrown away anyway
            "--log-level=warn",
        ]

    def _apiserver(self, etcd: int) -> list[str]:
        return [
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{etcd}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            # Loopback may not stand behind the `kubernetes` Service.
            "--endpoint-reconciler-type=none",
            f"--secure-port={self.port}",
            f"--client-ca-file={self.folder}/ca.crt",
            f"--tls-cert-file={self.folder}/apiserver.crt",
            f"--tls-private-key-file={self.folder}/apiserver.key",
            f"--service-cluster-ip-range={SERVICE_CIDR}",
            f"--service-account-key-file={self.folder}/service-account.pub",
            f"--service-account-signing-key-file={self.folder}/service-account.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--authorization-mode=RBAC",
            # Nobody here makes the `default` account that pods need.
            "--disable-admission-plugins=ServiceAccount",
            "--allow-privileged=false",
        ]

    def _kubeconfig(self) -> dict[str, Any]:
        cluster = {"server": self.url, "certificate-authority": f"{self.folder}/ca.crt"}
        user = {
            "client-certificate": f"{self.folder}/admin.crt",
            "client-key": f"{self.folder}/admin.key",
        }
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "wan-test", "cluster": cluster}],
            "users": [{"name": "admin", "user": user}],
            "contexts": [{"name": "wan-test", "context": {"cluster": "wan-test", "user": "admin"}}],
            "current-context": "wan-test",
        }

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        with open(self.folder / f"{command[0]}.log", "wb") as log:
            return subprocess.Popen(
                [self.binaries / command[0], *command[1:]],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                # Go's collector otherwise runs whenever the heap has doubled: a sixth of the time.
                env={**os.environ, "GOGC": "300"},
            )

    def _wait_ready(self, running: list[subprocess.Popen[bytes]]) -> None:
        deadline = time.monotonic() + START_SECONDS
        last = "no answer"
        while time.monotonic() < deadline:
            for process in running:
                if process.poll() is not None:
                    name = Path(str(process.args[0])).name  # type: ignore[index]
                    raise NotStarted(
                        f"{name} ended with {process.returncode}: {self._last_words(name)}"
                    )
            try:
                self.request("GET", "/readyz")
                self.request("GET", "/api/v1/namespaces/default")
            except (OSError, http.client.HTTPException, ApiError) as error:
                last = str(error)
                time.sleep(0.2)
            else:
                return
        raise NotStarted(
            f"not ready after {START_SECONDS:.0f} s ({last}): {self._last_words('kube-apiserver')}"
        )

    def _last_words(self, name: str) -> str:
        lines = (self.folder / f"{name}.log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-15:])


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def certificates(folder: Path) -> None:
    """An authority, the server's certificate, an administrator's, and the key pair of service
    account tokens."""

    def openssl(*arguments: str) -> None:
        done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise NotStarted(f"openssl {' '.join(arguments)}: {done.stderr}")

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl(
        "req",
        "-x509",
        *curve,
        "-days",
        "2",
        "-keyout",
        "ca.key",
        "-out",
        "ca.crt",
        "-subj",
        "/CN=wan-test-ca",
    )
    for name, subject, alternative in (
        (
            "apiserver",
            "/CN=kube-apiserver",
            "IP:127.0.0.1,DNS:localhost,DNS:kubernetes.default.svc",
        ),
        ("admin", "/O=system:masters/CN=admin", "DNS:admin"),
    ):
        (folder / f"{name}.ext").write_text(
            f"subjectAltName={alternative}\nextendedKeyUsage=serverAuth,clientAuth\nauthorityKeyIdentifier=keyid\n"
        )
        openssl("req", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", subject)
        openssl(
            *(
                "x509",
                "-req",
                "-in",
                f"{name}.csr",
                "-CA",
                "ca.crt",
                "-CAkey",
                "ca.key",
                "-CAcreateserial",
            ),
            *("-days", "2", "-out", f"{name}.crt", "-extfile", f"{name}.ext"),
        )
    openssl("genrsa", "-out", "service-account.key", "2048")
    openssl("rsa", "-in", "service-account.key", "-pubout", "-out", "service-account.pub")
