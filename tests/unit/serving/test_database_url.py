"""Connection strings as providers of PostgreSQL give them: understood, or refused by parameter."""

from __future__ import annotations

from pathlib import Path

import pytest
from asyncpg import connect_utils

from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InputError
from wan_runtime.serving.database_url import checked
from wan_runtime.serving.queue.database import SETTINGS
from wan_runtime.serving.queue.refusals import server_of

PASSWORD = "s3cr3t"
NEON = f"postgresql://ann:{PASSWORD}@ep-cool-1.eu-central-1.aws.neon.tech/neondb"
SUPABASE = f"postgresql://postgres.abc:{PASSWORD}@aws-0-eu-central-1.pooler.supabase.com"
RDS = f"postgresql://ann:{PASSWORD}@wan.abc.eu-central-1.rds.amazonaws.com:5432/videos"
CLOUD_SQL = f"postgresql://ann:{PASSWORD}@10.20.0.3/videos"


@pytest.mark.parametrize(
    ("url", "server"),
    [
        (
            f" {NEON}?sslmode=require\n",
            "ep-cool-1.eu-central-1.aws.neon.tech:5432 (database neondb, user ann)",
        ),
        (
            f"{NEON}?options=endpoint%3Dep-cool-1",
            "ep-cool-1.eu-central-1.aws.neon.tech:5432 (database neondb, user ann)",
        ),
        (
            f"{SUPABASE}:5432/postgres",
            "aws-0-eu-central-1.pooler.supabase.com:5432 (database postgres, user postgres.abc)",
        ),
        (
            f"{RDS}?sslmode=require&target_session_attrs=read-write",
            "wan.abc.eu-central-1.rds.amazonaws.com:5432 (database videos, user ann)",
        ),
        (CLOUD_SQL, "10.20.0.3:5432 (database videos, user ann)"),
        (
            f"postgres://ann:{PASSWORD}@pg-1:5432,pg-2/videos",
            "pg-1:5432, pg-2:5432 (database videos, user ann)",
        ),
        (
            f"postgresql:///videos?host=pg&port=6000&user=ann&password={PASSWORD}",
            "pg:6000 (database videos, user ann)",
        ),
        (f"postgresql://ann:{PASSWORD}@[fd00::7]:5433/v", "[fd00::7]:5433 (database v, user ann)"),
    ],
)
def test_it_is_understood(url: str, server: str) -> None:
    taken = checked(url)
    assert taken == url.strip()
    assert server_of(taken) == f"PostgreSQL at {server}"
    _, parameters, _ = connect_utils._parse_connect_arguments(
        dsn=taken, host=None, port=None, user=None, password=None, passfile=None, database=None,
        command_timeout=None, statement_cache_size=0, max_cached_statement_lifetime=0,
        max_cacheable_statement_size=0, ssl=None, direct_tls=None, server_settings=SETTINGS,
        target_session_attrs=None, krbsrvname=None, gsslib=None, service=None, servicefile=None,
    )  # fmt: skip
    assert parameters.password == PASSWORD
    assert parameters.server_settings.keys() - SETTINGS.keys() <= {"options"}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"{NEON}?sslmode=require&channel_binding=require", "the parameter channel_binding: the"),
        (f"{NEON}?channel_binding=prefer", "the parameter channel_binding: it changes nothing"),
        (f"{SUPABASE}:6543/postgres?pgbouncer=true", "the parameter pgbouncer: the queue needs"),
        (f"{SUPABASE}:6543/postgres?connection_limit=1", "the parameter connection_limit: "),
        (f"{RDS}?ssl=true", "the parameter ssl: write sslmode=require"),
        (f"{RDS}?sslmode=on", "sslmode=on: write one of disable, allow, prefer, require, verify"),
        (f"{RDS}?sslmode=verify-full", "sslmode=verify-full without sslrootcert"),
        (
            f"{RDS}?sslmode=verify-full&sslrootcert=/certs/rds.pem",
            "sslrootcert=/certs/rds.pem, a file that the pod does not have",
        ),
        (
            f"{RDS}?sslmode=require&sslkey=-----BEGIN+PRIVATE+KEY-----%0A{PASSWORD * 50}",
            "sslkey with the content of a file in place of its name",
        ),
        (f"{RDS}?sslmode=require&sslcert={'x' * 300}", "a file that the pod does not have"),
        (
            f"postgresql://ann:{PASSWORD}@/videos?host=/cloudsql/project:region:wan",
            "host=/cloudsql/project:region:wan, a socket, as the proxy of Cloud SQL makes it",
        ),
        (f"{CLOUD_SQL}?connect_timeout=10", "the parameter connect_timeout: the time limits"),
        (f"{CLOUD_SQL}?search_path=x", "the parameter search_path, which is not understood"),
        (f"{CLOUD_SQL}?schema=x", "the parameter schema: the tables are in the schema wan_video"),
        (f"postgresql+asyncpg://ann:{PASSWORD}@db/v", "names a driver, postgresql+asyncpg: write"),
        (f"jdbc:postgresql://db/v?user=ann&password={PASSWORD}", "is one of JDBC: write"),
        (f"{CLOUD_SQL}?{PASSWORD}", "is not postgresql://USER:PASSWORD@HOST[:PORT]/DATABASE"),
        (f"postgresql://ann:{PASSWORD}@pg-1:port,pg-2/v", "is not postgresql://USER:PASSWORD@"),
        (" \n", "is not set: postgresql://"),
    ],
)
def test_it_is_refused_by_name(url: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        checked(url)
    assert caught.value.reason is Reason.JOB_INVALID
    assert caught.value.message.startswith(
        "WAN_DATABASE_URL (the key url of the database's Secret)"
    )
    assert said in caught.value.message
    assert PASSWORD not in caught.value.message


def test_an_authority_that_the_pod_has_is_understood(tmp_path: Path) -> None:
    file = tmp_path / "rds.pem"
    file.write_text("")
    url = f"{RDS}?sslmode=verify-full&sslrootcert={file}"
    assert checked(url) == url
