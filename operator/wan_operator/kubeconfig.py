"""How the operator reaches its API server, and what is wrong with what says so.

The client library reads kubeconfigs, and means well-formed ones: from others it raises anything.
So what it takes from a file is checked first.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from kubernetes.aio import client, config
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo

from wan_operator.yaml_files import DocumentError, yaml_documents
from wan_runtime.faults import described, value

DEFAULT = "~/.kube/config"
IN_CLUSTER = "KUBERNETES_SERVICE_HOST"
"""Variable that the kubelet sets in every pod."""


class KubeconfigError(Exception):
    """Error of the access to the API server: the text names the file and the field, and what would
    be right. Caught at the start, which it ends."""


def _existing(path: str, info: ValidationInfo) -> str:
    """Relative paths begin at the folder of their kubeconfig, which is the context."""
    folder: Path = info.context or Path()
    if path and not (folder / path).is_file():
        raise ValueError(f"there is no file {path}")
    return path


File = Annotated[str, AfterValidator(_existing)]


class _Part(BaseModel):
    model_config = ConfigDict(
        alias_generator=lambda name: name.replace("_", "-"), strict=True, extra="ignore"
    )


class _Cluster(_Part):
    server: Annotated[str, Field(pattern=r"^https?://[^\s/]+")]
    certificate_authority: File | None = None


class _User(_Part):
    client_certificate: File | None = None
    client_key: File | None = None
    token: str | None = None
    token_file: Annotated[File | None, Field(alias="tokenFile")] = None
    exec: dict[str, Any] | None = None
    auth_provider: dict[str, Any] | None = None


class _Context(_Part):
    cluster: str
    user: str


class _Entry(_Part):
    """Entry of a list. Only what is used is checked: the rest may be out of date."""

    name: str
    cluster: Any = None
    user: Any = None
    context: Any = None


class _File(_Part):
    current_context: str | None = None
    clusters: list[_Entry] | None = None
    users: list[_Entry] | None = None
    contexts: list[_Entry] | None = None


Read = Sequence[tuple[Path, _File]]
"""The files of KUBECONFIG, in their order."""
Part = TypeVar("Part", bound=_Part)


async def connect() -> client.ApiClient:
    """The client of the pod's service account, or of the kubeconfig of whoever runs this on a desk.

    Raises:
        KubeconfigError: if there is neither, or it cannot be used.
    """
    configuration = client.Configuration()
    try:
        config.load_incluster_config(configuration)
    except config.ConfigException as error:
        files = _files(os.environ)
        if not files:
            raise KubeconfigError(_no_access(os.environ)) from error
        return await _load(files, configuration)
    return client.ApiClient(configuration)


def _files(environ: Mapping[str, str]) -> list[Path]:
    """Those of KUBECONFIG that exist; the library reads the variable when it is imported."""
    paths = (environ.get("KUBECONFIG") or DEFAULT).split(os.pathsep)
    files = [os.path.expanduser(each) for each in paths if each]
    return [Path(each) for each in files if os.path.exists(each)]


def _no_access(environ: Mapping[str, str]) -> str:
    if environ.get(IN_CLUSTER):
        return (
            "this pod has no service account token: set automountServiceAccountToken: true, and "
            "serviceAccountName to the account of the Helm chart"
        )
    paths = environ.get("KUBECONFIG") or DEFAULT
    return f"there is no kubeconfig at {paths}: set KUBECONFIG, or run this in a cluster"


async def _load(files: Sequence[Path], configuration: client.Configuration) -> client.ApiClient:
    where = os.pathsep.join(map(str, files))
    context, user = _checked([(file, _read(file)) for file in files], where)
    names = f"{where}: cluster {context.cluster} or user {context.user}"
    try:
        await config.load_kube_config(where, client_configuration=configuration)
        made = client.ApiClient(configuration)
    except ssl.SSLError as error:
        text = f"{names} has a certificate or key that is no PEM, or does not belong to the other"
        raise KubeconfigError(text) from error
    except Exception as error:  # the library's list is open, see above
        raise KubeconfigError(f"{names} cannot be used: can kubectl use them?") from error
    if user.exec is not None and not (configuration.api_key or configuration.cert_file):
        await made.close()
        command = value(user.exec.get("command"))
        text = (
            f"{where}: user {context.user}: exec.command {command} gives no token: try it by hand"
        )
        raise KubeconfigError(text)
    return made


def _read(file: Path) -> _File:
    try:
        documents = yaml_documents(str(file))
        return _File.model_validate(documents[0] if documents else None)
    except DocumentError as error:
        raise KubeconfigError(str(error)) from error
    except ValidationError as error:
        raise KubeconfigError(f"{file}: {described(error)}") from error


def _checked(read: Read, where: str) -> tuple[_Context, _User]:
    """What is used of them: the context that is current, and its user."""
    names = [part.current_context for _, part in read if part.current_context]
    if not names:
        raise KubeconfigError(f"{where}: current-context: is missing")
    context = _part(read, "context", names[-1], _Context, f"{where}: current-context")
    at = f"{where}: contexts: {names[-1]}"
    _part(read, "cluster", context.cluster, _Cluster, f"{at}: cluster")
    return context, _part(read, "user", context.user, _User, f"{at}: user")


def _part(read: Read, kind: str, name: str, model: type[Part], at: str) -> Part:
    """The entry of this name, checked; of two the first counts."""
    entries = [(file, each) for file, part in read for each in getattr(part, f"{kind}s") or ()]
    for file, entry in entries:
        if entry.name != name:
            continue
        try:
            return model.model_validate(getattr(entry, kind), context=file.parent)
        except ValidationError as error:
            text = described(error, f"{kind}s: {name}: {kind}")
            raise KubeconfigError(f"{file}: {text}") from error
    known = ", ".join(entry.name for _, entry in entries) or "there are none"
    raise KubeconfigError(f"{at}: must be one of the {kind}s ({known}), not {value(name)}")
