"""Connection strings of PostgreSQL: what is understood of them, and what is refused by name.

Nothing is passed on that the client would send to the server as a setting, or ignore.
"""

from __future__ import annotations

import os
from urllib.parse import parse_qsl, unquote, urlsplit

from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InputError
from wan_runtime.faults import value
from wan_runtime.serving import mounted

VARIABLE = "WAN_DATABASE_URL"
FILE = "WAN_DATABASE_URL_FILE"
"""Variable with the file of the mounted Secret, which follows its changes."""
WHERE = f"{VARIABLE} (the key url of the database's Secret)"
FORM = "postgresql://USER:PASSWORD@HOST[:PORT]/DATABASE"
SCHEMES = ("postgresql", "postgres")
MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
PUBLIC = ("database", "dbname", "host", "options", "port", "target_session_attrs", "user")
"""Parameters that are passed on, beside those below."""
FILES = ("sslcert", "sslcrl", "sslkey", "sslrootcert")
"""Parameters that name a file, which must be in the pod."""
REFUSED = {
    "channel_binding": "the client has no channel binding: take the parameter out",
    "connect_timeout": "the time limits are the service's own: take the parameter out",
    "connection_limit": "the number of connections is the service's own: take the parameter out",
    "pgbouncer": "the queue needs sessions of its own (LISTEN, search_path), which a pooler of "
    "transactions has not: give the address of PostgreSQL itself, and take the parameter out",
    "pool_mode": "the queue needs sessions of its own (LISTEN, search_path), which a pooler of "
    "transactions has not: give the address of PostgreSQL itself, and take the parameter out",
    "pool_timeout": "the time limits are the service's own: take the parameter out",
    "schema": "the tables are in the schema wan_video: take the parameter out",
    "ssl": "write sslmode=require, or another sslmode",
}
"""Parameters of clients and providers -> why, and what to write."""


def given() -> str:
    """The connection string of the environment.

    Raises InputError(JOB_INVALID) as `checked` does, unless a Secret is mounted: that may be mended
    yet, and `current` checks it.
    """
    url = os.environ.get(VARIABLE, "")
    return url if os.environ.get(FILE) else checked(url)


def current(url: str) -> str:
    """The connection string of the mounted Secret; `url` where none is mounted.

    Raises InputError(JOB_INVALID) as `checked` does.
    """
    return checked(mounted.text(os.environ.get(FILE), url))


def checked(url: str) -> str:
    """The connection string without white space around it.

    Raises InputError(JOB_INVALID) with the parameter that is wrong. Says no value but of parameters
    that hold no secret.
    """
    url = url.strip()
    if not url:
        raise _refused(f"is not set: {FORM}")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _not_one() from None
    if parts.scheme.partition("+")[0] in SCHEMES and "+" in parts.scheme:
        raise _refused(f"names a driver, {parts.scheme}: write {FORM}")
    if parts.scheme == "jdbc":
        raise _refused(f"is one of JDBC: write {FORM}")
    hidden = parts.path + parts.query + parts.fragment
    if parts.scheme not in SCHEMES or "@" in hidden or parts.fragment:
        raise _not_one()
    try:
        given = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise _not_one() from None
    parameters = dict(given)
    for name, text in given:
        _check(name, text)
    hosts = parts.netloc.rpartition("@")[2] or unquote(parameters.get("host", ""))
    _check_hosts(hosts)
    if parameters.get("sslmode", "").startswith("verify-") and "sslrootcert" not in parameters:
        raise _refused(
            f"has sslmode={parameters['sslmode']} without sslrootcert, the file of the authority: "
            "write sslmode=require, or add sslrootcert with a file of the pod"
        )
    return url


def _check(name: str, text: str) -> None:
    if name == "password" or name in PUBLIC:
        return
    if name == "sslmode":
        if text not in MODES:
            raise _refused(f"has sslmode={value(text)[1:-1]}: write one of {', '.join(MODES)}")
        return
    if name == "channel_binding" and text in ("prefer", "disable"):
        raise _refused(f"has the parameter {name}: it changes nothing here: take it out")
    if name in FILES:
        if "-----BEGIN" in text:  # never said: it may be a key
            raise _refused(
                f"has {name} with the content of a file in place of its name: take it out, with "
                "sslmode=require at most"
            )
        if not os.path.isfile(text):
            raise _refused(
                f"has {name}={value(text)[1:-1]}, a file that the pod does not have: take it out, "
                "with sslmode=require at most"
            )
        return
    why = REFUSED.get(name)
    if why is not None:
        raise _refused(f"has the parameter {name}: {why}")
    known = ", ".join(sorted((*PUBLIC, *FILES, "password", "sslmode")))
    raise _refused(
        f"has the parameter {value(name)[1:-1]}, which is not understood: take it out. Understood "
        f"are {known}"
    )


def _check_hosts(hosts: str) -> None:
    if not hosts:
        raise _not_one()
    if hosts.startswith("/"):
        raise _refused(
            f"has host={value(hosts)[1:-1]}, a socket, as the proxy of Cloud SQL makes it, which "
            "the pod does not have: give the address of the server, or of the proxy as a Service"
        )
    for each in hosts.split(","):
        host, _, port = each.rpartition(":") if _has_port(each) else (each, "", "5432")
        is_port = port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 2**16
        if not host or not is_port:
            raise _not_one()


def _has_port(address: str) -> bool:
    return ":" in address.rpartition("]")[2]


def _not_one() -> InputError:
    return _refused(
        f"is not {FORM}; signs of the password such as / # ? % @ are written %2F %23 %3F %25 %40"
    )


def _refused(text: str) -> InputError:
    return InputError(Reason.JOB_INVALID, f"{WHERE} {text}")
