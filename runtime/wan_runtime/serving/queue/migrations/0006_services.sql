-- The services themselves: rows belong to one of them, not to its name.

create table services (
    -- What the column `service` of all other tables holds: the service's uid, or the name that an
    -- earlier release wrote, see services.py.
    queue text primary key,
    -- Null: what an earlier release left of another service of the name; no gateway has come for it.
    uid text,
    cluster text not null,
    namespace text not null,
    name text not null,
    -- Of its keys in the bucket.
    prefix text not null,
    -- "<endpoint>/<bucket>": gateways of other services there can remove its objects.
    store text not null,
    -- By a gateway or worker of its own.
    seen_at timestamptz not null default now(),
    -- Since when it is known to be gone: what waits is removed, the rest by its retention.
    deleted_at timestamptz,
    -- When the owners that an earlier release wrote by name were given to API keys.
    owners_at timestamptz,
    unique (uid, cluster)
);

-- Owners that are not the API key's id: those of an earlier release, which wrote names.
create table api_keys (
    service text not null references services on delete cascade,
    id text not null,
    owner text not null,
    primary key (service, id),
    unique (service, owner)
);
