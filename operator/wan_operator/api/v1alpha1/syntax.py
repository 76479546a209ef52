"""Strings with a syntax of Kubernetes or of S3, refused when they are applied.

The API server would take most of them as text and refuse the object that is made of them, much
later and elsewhere.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from wan_operator.api.markers import Cel, Schema, rule, syntax

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = f"{_LABEL}([.]{_LABEL})*"
_WORD = "[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
_BUCKET = "[a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
_DOTS = "/[.]{1,2}(/|$)"
"""A segment that clients of S3 resolve as a file system would, or refuse."""
_OCTET = "(25[0-5]|2[0-4][0-9]|1?[0-9]{1,2})"
_IS_S3 = (
    f"(self.matches('^s3://{_BUCKET}(/[^/]+)*/?$') && self.matches('^s3://[^/]{{3,63}}(/|$)') && "
    f"!self.matches('{_DOTS}'))"
)

KEY_SYNTAX = (
    "letters, digits, '-', '_' and '.' between two letters or digits, at most 63, after an "
    "optional prefix such as example.com/"
)


def key_is_valid(key: str, prefix: str = _SUBDOMAIN) -> str:
    """CEL expression: whether the string that `key` names is a key of labels, annotations or
    taints.

    https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
    """
    return (
        f"({key}.matches('^({prefix}/)?{_WORD}$') && {key}.matches('^(.{{1,253}}/)?[^/]{{1,63}}$'))"
    )


def names_a_service(message: str, *, unless: str | None = None) -> Schema:
    """Rule over a whole object with whose name that of a Service begins. Names of Services, which
    are parts of host names, begin with a letter; those of other objects may begin with a digit.

    `unless`: CEL expression for objects that have no such Service.
    """
    letter = "self.metadata.name.matches('^[a-z]')"
    return rule(f"{unless} || {letter}" if unless else letter, message, ".metadata.name")


def keys_of(of: Literal["labels", "annotations"]) -> Cel:
    """Rule over a map: its keys are those of labels or of annotations."""
    # The API server compares the prefix in lower case, of annotations alone.
    prefix = _SUBDOMAIN.replace("a-z0-9", "A-Za-z0-9") if of == "annotations" else _SUBDOMAIN
    return Cel(
        f"self.all(key, {key_is_valid('key', prefix)})",
        f"must have keys of {of}: {KEY_SYNTAX}",
        computed=f"'has the key ' + self.filter(key, !{key_is_valid('key', prefix)})[0] + "
        f'", which is not a key of {of}: {KEY_SYNTAX}"',
    )


ObjectName = Annotated[
    str,
    Field(min_length=1, max_length=253),
    syntax(
        f"self.matches('^{_SUBDOMAIN}$')",
        "must be the name of an object: lower-case letters, digits, '-' and '.'",
    ),
]
LabelKey = Annotated[
    str,
    Field(min_length=1, max_length=317),
    syntax(key_is_valid("self"), f"must be a key of labels: {KEY_SYNTAX}"),
]
LabelValue = Annotated[
    str,
    Field(max_length=63),
    syntax(
        f"self == '' || self.matches('^{_WORD}$')",
        "must be the value of a label: letters, digits, '-', '_' and '.' between two letters or "
        "digits",
    ),
]
Labels = Annotated[dict[str, LabelValue], Field(max_length=32), keys_of("labels")]
Annotations = Annotated[
    dict[str, Annotated[str, Field(max_length=4096)]],
    Field(max_length=32),
    keys_of("annotations"),
]
Hostname = Annotated[
    str,
    Field(min_length=1, max_length=253),
    syntax(
        f"self.matches('^([*][.])?{_SUBDOMAIN}$')",
        "must be a host name, such as videos.example.com",
    ),
]
PrivateHost = Annotated[
    str,
    Field(min_length=1, max_length=253),
    syntax(
        f"self.matches('^([*][.])?{_SUBDOMAIN}$')"
        f" || self.matches('^({_OCTET}[.]){{3}}{_OCTET}/(3[0-2]|[12]?[0-9])$')"
        " || self.matches('^([0-9a-f]{1,4}:){1,7}:/(12[0-8]|1[01][0-9]|[1-9]?[0-9])$')",
        "must be a host name such as receiver.team-a.svc or *.team-a.svc.cluster.local, or a CIDR "
        "such as 10.20.0.0/16 or fd00:20::/32",
    ),
]
S3Uri = Annotated[
    str,
    Field(max_length=1024),
    syntax(
        _IS_S3,
        "must be an S3 address: s3://bucket/path, where the bucket has 3 to 63 lower-case letters, "
        "digits, '.' and '-', and the path no '//', '.' or '..'",
    ),
]
FILE = syntax(
    "!self.matches('^s3://[^/]*/*$')",
    "must name a file, as s3://bucket/path does, and no whole bucket",
)
"""Rule over the S3 address of one object. Elsewhere a whole bucket may be the folder."""
FileUri = Annotated[S3Uri, FILE]
PREVIEW = syntax(
    f"self == '' || self.matches('^https://[^ ]+$') || {_IS_S3}",
    "must be an s3:// or https:// address; of s3://bucket/path, the bucket has 3 to 63 lower-case "
    "letters, digits, '.' and '-', and the path no '//', '.' or '..'",
)
"""Rule over the address of a clip."""
BUCKET = syntax(
    f"self.matches('^{_BUCKET}$')",
    "must be a bucket name: lower-case letters, digits, '.' and '-', each '.' and '-' between two "
    "letters or digits",
)
PREFIX = syntax(
    "self == '' || (self.matches('^[^/ ]([^ ]*[^/ ])?$') && !self.contains('//') && "
    f"!('/' + self).matches('{_DOTS}'))",
    "must not start or end with '/' and hold no '//', no space, and no '.' or '..' between two '/'",
)
"""Rule over a prefix of keys in a bucket."""

Cpu = Annotated[
    str,
    Field(max_length=32),
    syntax(
        "isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))",
        "must be a quantity above 0, such as 8 or 500m",
    ),
]
Bytes = Annotated[
    str,
    Field(max_length=32),
    syntax(
        "isQuantity(self) && !quantity(self).isLessThan(quantity('1Mi'))",
        "must be a quantity of at least 1Mi, such as 64Gi: a number without a unit counts bytes",
    ),
]
