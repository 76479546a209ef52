"""PostgreSQL and what it refuses, in words for people: never with a password."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

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


def server_of(url: str) -> str:
    """Its address, database and user."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    address = host if parts.port else f"{host}:5432"
    database, user = parts.path.strip("/"), unquote(parts.username or "")
    return f"PostgreSQL at {address} (database {database}, user {user})"


def refusal(error: BaseException) -> str | None:
    """What was refused and what helps. None: it was something else."""
    if isinstance(error, asyncpg.ProtocolViolationError) and "startup parameter" in str(error):
        return (
            f"{first_line(error)}: name PostgreSQL itself, not a pooler such as PgBouncer, {WHERE}"
        )
    helps = next((text for kind, text in HELP.items() if isinstance(error, kind)), None)
    return helps and f"{first_line(error)}: {helps} {WHERE}"


def first_line(error: BaseException) -> str:
    """The server's words without details and hints, which asyncpg appends in lines of their own."""
    return str(error).partition("\n")[0]
