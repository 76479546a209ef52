"""Settings of the operator process, from the environment and from nowhere else.

The Helm chart sets these variables; each can be read back with `wan-operator run --show-settings`.
"""

from __future__ import annotations

import dataclasses
import platform
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from wan_runtime.faults import value as shortened
from wan_runtime.planner.gpus import DEFAULTS, Gpu, by_name, parse_catalogue


class SettingsError(Exception):
    """Error of a variable whose value cannot be used. Caught once, by the command line, which exits
    with 2."""

    def __init__(self, variable: str, value: str | None, wanted: str) -> None:
        found = "is not set" if value is None else f"is {shortened(value)}"
        super().__init__(f"{variable} {found}: {wanted}")
        self.variable = variable


class Unusable(Exception):
    """Error of a value in which a part is wrong; the message names the part."""


REQUIRED = dataclasses.MISSING
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DNS_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")

Parser = Callable[[str], Any]


def _setting(variable: str, parse: Parser, wanted: str, default: Any = REQUIRED) -> Any:
    """A dataclass field that is read from `variable`; `wanted` ends the error message."""
    metadata = {"variable": variable, "parse": parse, "wanted": wanted}
    return (
        field(metadata=metadata)
        if default is REQUIRED
        else field(default=default, metadata=metadata)
    )


def _matching(pattern: str) -> Parser:
    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(text)
        return text

    return parse


def _number(low: float, high: float, kind: type = int) -> Parser:
    def parse(text: str) -> float:
        value: float = kind(text)
        if not low <= value <= high:
            raise ValueError(text)
        return value

    return parse


def _one_of(*choices: str) -> Parser:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(text)
        return text

    return parse


def _names(text: str) -> tuple[str, ...]:
    names = tuple(sorted({part.strip() for part in text.split(",") if part.strip()}))
    for name in names:
        if not _DNS_LABEL.fullmatch(name):
            raise ValueError(name)
    return names


def _catalogue(text: str) -> tuple[Gpu, ...]:
    try:
        return parse_catalogue(text)
    except ValueError as error:
        raise Unusable(str(error)) from error


_NAME = _matching(_DNS_NAME.pattern)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Settings of the operator process; each field's text has its default and the reason for it."""

    runtime_image: str = _setting(
        "WAN_RUNTIME_IMAGE",
        _matching(r"\S{1,512}"),
        "must be the image that runs the steps, best with a digest",
    )
    """Image of the pods of steps and workers. No default: it must be of the operator's own release,
    since both share the job format."""

    operator_image: str = _setting(
        "WAN_OPERATOR_IMAGE",
        _matching(r"\S{1,512}"),
        "must be the operator's own image",
    )
    """Image of the gateway pods, which is the operator's own: they need no GPU. No default, for the
    same reason as WAN_RUNTIME_IMAGE."""

    image_pull_policy: str = _setting(
        "WAN_IMAGE_PULL_POLICY",
        _one_of("Always", "IfNotPresent", "Never"),
        "must be Always, IfNotPresent or Never",
        "IfNotPresent",
    )
    """Pull policy of all pods of fine-tunes, services and evaluations. Default IfNotPresent: images
    are pinned by digest, and pulling again gains nothing."""

    image_pull_secrets: tuple[str, ...] = _setting(
        "WAN_IMAGE_PULL_SECRETS", _names, "must be Secret names, separated by commas", ()
    )
    """Names of the pull Secrets of all pods of fine-tunes, services and evaluations, in addition to
    those of podTemplate. They must exist in the namespace of the resource. Default none."""

    store_endpoint: str = _setting(
        "WAN_STORE_ENDPOINT",
        _matching(r"https?://[^/ ]+"),
        "must be http(s)://host[:port] without a path",
        "",
    )
    """S3 endpoint for resources that name none. Default none: then spec.store.endpoint is needed.
    """

    store_bucket: str = _setting(
        "WAN_STORE_BUCKET",
        _matching(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"),
        "must be a bucket name",
        "",
    )
    """Bucket for resources that name none. Default none: then spec.store.bucket is needed."""

    store_prefix: str = _setting(
        "WAN_STORE_PREFIX",
        _matching(r"[^/ ]([^ ]{0,510}[^/ ])?"),
        "must not start or end with '/'",
        "",
    )
    """Key prefix for resources that name none. Default none: keys start at the bucket's root."""

    store_region: str = _setting(
        "WAN_STORE_REGION",
        _matching(r"[a-z0-9-]{1,64}"),
        "must be a region, such as us-east-1",
        "us-east-1",
    )
    """S3 region for resources that name none. Default us-east-1, which MinIO accepts unless it is
    configured otherwise."""

    store_secret: str = _setting("WAN_STORE_SECRET", _NAME, "must be the name of a Secret", "")
    """Name of the Secret with the keys `accessKey` and `secretKey` for resources that name none.
    Pods read it in the namespace of the resource. Default none: then spec.store.secretRef is
    needed."""

    store_ca_config_map: str = _setting(
        "WAN_STORE_CA_CONFIGMAP", _NAME, "must be the name of a ConfigMap", ""
    )
    """Name of the ConfigMap with the PEM bundle of the store's private CA, in the namespace of the
    resource, for resources that name none. Default none: the public CAs of the image."""

    store_ca_key: str = _setting(
        "WAN_STORE_CA_KEY", _matching(r"[-._a-zA-Z0-9]{1,253}"), "must be a ConfigMap key", "ca.crt"
    )
    """Key in WAN_STORE_CA_CONFIGMAP. Default ca.crt, as cert-manager writes it."""

    database_secret: str = _setting(
        "WAN_DATABASE_SECRET", _NAME, "must be the name of a Secret", ""
    )
    """Name of the Secret with the key `url` (postgresql://user:password@host/database) for
    WanInferenceServices that name none. Pods read it in the namespace of the WanInferenceService.
    Default none: then spec.database.secretRef is needed."""

    cluster_id: str = _setting(
        "WAN_CLUSTER_ID",
        _matching("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"),
        "must be 1 to 63 characters of a-z, 0-9 and -, with a letter or digit at both ends",
        "",
    )
    """Id of this cluster in the queues and videos of its services. Default none: services are
    distinguished by their uids, which no two clusters share unless one was made from a copy of the
    other. A service sees only what it made under the id that it has now."""

    gpu_catalogue: tuple[Gpu, ...] = _setting(
        "WAN_GPU_CATALOGUE",
        _catalogue,
        "must be a JSON list of GPU types with name, memoryGib, bf16Tflops, bandwidthGbs and "
        "pricePerHour, none twice",
        DEFAULTS,
    )
    """GPU types that plans are made for: those of the list, and those of the built-in catalogue
    that the list does not replace by name or product. Default the built-in catalogue, whose prices
    are examples."""

    gpu_type: str = _setting(
        "WAN_GPU_TYPE", _matching(r"[A-Za-z0-9][-A-Za-z0-9_.]{0,62}"), "must name a GPU type", ""
    )
    """GPU type of the cluster by its name in the catalogue, for pods whose podTemplate does not
    select one by nvidia.com/gpu.product. Default unknown: a run is then refused only if it fits no
    type."""

    model_cache: str = _setting(
        "WAN_MODEL_CACHE",
        _matching(r"/[^:\s]{1,250}|" + _DNS_NAME.pattern),
        "must be the name of a PersistentVolumeClaim or an absolute path of the nodes",
        "",
    )
    """Volume in which pods keep imported base models for the next pod: a PersistentVolumeClaim in
    the namespace of the resource, or a folder on the nodes that group 10001 may write to, which Pod
    Security baseline and restricted refuse. Default none: each GPU pod fetches into its scratch
    volume."""

    watch_namespaces: tuple[str, ...] = _setting(
        "WAN_WATCH_NAMESPACES",
        _names,
        "must be namespace names, separated by commas, or empty for all",
        (),
    )
    """Namespaces that the operator acts on. Default empty: all, which needs the ClusterRole."""

    namespace: str = _setting(
        "WAN_NAMESPACE",
        _matching(_DNS_LABEL.pattern),
        "must be the operator's own namespace (downward API)",
    )
    """Namespace of the Lease. No default: two operators with different guesses would both lead."""

    lease_name: str = _setting(
        "WAN_LEASE_NAME", _NAME, "must be the name of a Lease", "wan-operator"
    )
    """Name of the Lease that the active replica holds. Default wan-operator; two releases in one
    namespace need two names."""

    lease_seconds: int = _setting(
        "WAN_LEASE_SECONDS", _number(5, 300), "must be a whole number of seconds from 5 to 300", 15
    )
    """Seconds after which another replica may take over a Lease that is not renewed. Default 15, as
    for kube-controller-manager: a killed operator is replaced within it."""

    identity: str = _setting(
        "WAN_POD_NAME", _matching(r"\S{1,253}"), "must be the pod's name (downward API)", ""
    )
    """Holder of the Lease and reporter of events. Default the host name, which is the pod's name in
    a cluster."""

    health_port: int = _setting(
        "WAN_HEALTH_PORT",
        _number(0, 65535),
        "must be a port number, or 0 for a free one",
        8080,
    )
    """Port of /livez, /readyz and /metrics. Default 8080: the pod runs as an ordinary user, who may
    not use a port below 1024."""

    log_level: str = _setting(
        "WAN_LOG_LEVEL",
        _one_of("DEBUG", "INFO", "WARNING", "ERROR"),
        "must be DEBUG, INFO, WARNING or ERROR",
        "INFO",
    )
    """Lowest level that is logged. Default INFO: one line for each decision, and none while nothing
    changes."""

    log_format: str = _setting(
        "WAN_LOG_FORMAT", _one_of("json", "text"), "must be json or text", "json"
    )
    """Log format: json for log collectors, text for people. Default json."""

    workers: int = _setting("WAN_WORKERS", _number(1, 64), "must be a whole number from 1 to 64", 8)
    """Number of resources that are reconciled at the same time. Default 8: reconciling waits for
    the API server, not for the CPU."""

    writes_per_second: float = _setting(
        "WAN_WRITES_PER_SECOND",
        _number(0.1, 1000, float),
        "must be a number from 0.1 to 1000",
        20.0,
    )
    """Sustained rate of writes to the API server, per second; bursts may be twice as high. Default
    20: a restart with thousands of runs must not crowd out other clients."""

    sweep_seconds: float = _setting(
        "WAN_SWEEP_SECONDS",
        _number(1, 86400, float),
        "must be a number of seconds from 1 to 86400",
        300.0,
    )
    """Seconds between two sweeps, which check every resource; spread by a tenth. Default 300:
    the longest time that a lost watch event goes unnoticed, for three paginated LISTs."""

    progress_seconds: float = _setting(
        "WAN_PROGRESS_SECONDS",
        _number(1, 3600, float),
        "must be a number of seconds from 1 to 3600",
        15.0,
    )
    """Shortest time between two progress updates of one status, in seconds. Default 15: fresh
    enough to watch, and 100 runs cost seven writes a second."""

    retry_base_seconds: float = _setting(
        "WAN_RETRY_BASE_SECONDS",
        _number(0.1, 600, float),
        "must be a number of seconds from 0.1 to 600",
        10.0,
    )
    """Seconds before the first infrastructure retry; the wait doubles with each retry, up to five
    minutes. Default 10: longer than a MinIO restart takes, shorter than anyone waits. Tests shorten
    it."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Read the settings. Raises SettingsError for the first variable that is wrong. An empty
        value counts as not set, because that is what a chart writes for an empty Helm value."""
        values: dict[str, Any] = {}
        for setting in dataclasses.fields(cls):
            variable, wanted = setting.metadata["variable"], setting.metadata["wanted"]
            text = environ.get(variable, "")
            if not text:
                if setting.default is REQUIRED:
                    raise SettingsError(variable, None, wanted)
                continue
            try:
                values[setting.name] = setting.metadata["parse"](text)
            except ValueError:
                raise SettingsError(variable, text, wanted) from None
            except Unusable as error:
                raise SettingsError(variable, text, f"{wanted}: {error}") from error
        values.setdefault("identity", platform.node())
        made = cls(**values)
        if made.gpu_type and made.default_gpu is None:
            known = ", ".join(gpu.name for gpu in made.gpu_catalogue)
            raise SettingsError("WAN_GPU_TYPE", made.gpu_type, f"must be one of {known}")
        return made

    @property
    def default_gpu(self) -> Gpu | None:
        """The catalogue's entry for `gpu_type`; None if it is unknown."""
        return by_name(self.gpu_type, self.gpu_catalogue)

    def show(self) -> dict[str, str]:
        """Variable -> value in use. None of them is a secret."""
        values: dict[str, str] = {}
        for setting in dataclasses.fields(self):
            value = getattr(self, setting.name)
            values[setting.metadata["variable"]] = (
                ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            )
        return values
