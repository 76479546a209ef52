"""Deploys PostgreSQL into the cluster: the database of every WanInferenceService in it."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

from cluster import server
from cluster.layout import Layout
from cluster.shell import run

HOST = "postgres.postgres.svc.cluster.local:5432"
USER = DATABASE = "wan"
_BUILD = Path(__file__).resolve().parents[2] / "images" / "build.py"


def deploy(layout: Layout) -> dict[str, str]:
    """Makes PostgreSQL run and waits until it serves; a second call changes nothing."""
    image = run([sys.executable, _BUILD, "postgres"]).stdout.strip()
    keys = server.secret(layout, "postgres") or {"password": secrets.token_urlsafe(24)}
    named = {"user": USER, "database": DATABASE}
    server.deploy(layout, "postgres", {**keys, **named, "image": image})
    login = f"postgresql://{USER}:{keys['password']}"
    return {
        "host": HOST,
        **named,
        **keys,
        "url": f"{login}@{HOST}/{DATABASE}",
        "hostUrl": f"{login}@{server.address(layout, 'postgres')}/{DATABASE}",
    }
