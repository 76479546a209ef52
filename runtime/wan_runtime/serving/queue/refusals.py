"""PostgreSQL and what it refuses, in words for people: never with a password."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote, urlsplit

import asyncpg

HELP: dict[type[Exception], str] = {
    asyncpg.InvalidPasswordError: "correct user or password",
    asyncpg.InvalidAuthorizationSpecificationError: "let the server admit this user, or name "
    "another",
    asyncpg.InvalidCatalogNameError: "create the database, or name another",
    asyncpg.InsufficientPrivilegeError: "grant this user CONNECT and CREATE on the database, or "
    "name another",
    asyncpg.exceptions.ClientConfigurationError: "correct it",
}
"""What helps against refusals that no waiting heals. A class comes before its base."""
WHERE = "in WAN_DATABASE_URL, the key url of the database's Secret"


class SettingsIgnored(Exception):
    """The session is not as it was requested."""


def server_of(url: str) -> str:
    """Its addresses, database and user."""
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    given = dict(parse_qsl(parts.query))
    port = given.get("port", "5432")
    listed = (hosts or given.get("host", "")).split(",")
    addresses = (each if ":" in each.rpartition("]")[2] else f"{each}:{port}" for each in listed)
    database = parts.path.strip("/") or given.get("dbname", given.get("database", ""))
    user = unquote(login.partition(":")[0]) or given.get("user", "")
    return f"PostgreSQL at {', '.join(addresses)} (database {database}, user {user})"


def refusal(error: BaseException) -> str | None:
    """What was refused and what helps. None: it was something else."""
    is_pooler = isinstance(error, asyncpg.ProtocolViolationError) and "startup param" in str(error)
    if is_pooler or isinstance(error, SettingsIgnored):
        return (
            f"{first_line(error)}: name PostgreSQL itself, not a pooler such as PgBouncer, {WHERE}"
        )
    helps = next((text for kind, text in HELP.items() if isinstance(error, kind)), None)
    return helps and f"{first_line(error)}: {helps} {WHERE}"


def first_line(error: BaseException) -> str:
    """The server's words without details and hints, which asyncpg appends in lines of their own."""
    return str(error).partition("\n")[0]
