-- Videos that were asked for, and all that must change in one transaction with them.

create table jobs (
    id text primary key,
    -- "<namespace>/<name>": several services may share a database.
    service text not null,
    -- Order of submission, and of the lists; a time could repeat or go back.
    number bigint generated always as identity,
    owner text not null,
    state text not null default 'queued'
        check (state in ('queued', 'running', 'completed', 'failed', 'cancelled')),
    priority integer not null,
    -- json, not jsonb: prompts may hold \u0000, which jsonb refuses, and nothing searches in here.
    "order" json not null,
    -- Key of the first frame in the bucket until it is on the rubbish list.
    image text,
    predicted_seconds double precision not null check (predicted_seconds > 0),
    created_at timestamptz not null default now(),
    started_at timestamptz,
    completed_at timestamptz,
    expires_at timestamptz,
    attempts integer not null default 0,
    -- Who renders it, or did last. It stays after the end, so that a worker whose answer was lost
    -- can ask again.
    worker text,
    -- Of the call that claimed it: the same call, sent again, gets the same job.
    claim uuid,
    lease_until timestamptz,
    last_reason text,
    cancel_requested boolean not null default false,
    -- Asked to be deleted while it ran: nobody sees it any more, the row goes when the worker stops.
    deleted boolean not null default false,
    advance json,
    rendered json,
    problem json,
    remixed_from text,
    webhook text,
    check ((state = 'running') = (lease_until is not null))
);

-- Of all that wait or run: the order of claims is computed, so no index could have it. Nor is the
-- lease in any: a heartbeat changes no index.
create index jobs_unfinished on jobs (service, owner) where state in ('queued', 'running');
create index jobs_listed on jobs (service, owner, number) where not deleted;
create index jobs_expiring on jobs (service, expires_at) where expires_at is not null;

-- Seconds of work that each owner was given, fading: what the fair order goes by.
create table owners (
    service text not null,
    owner text not null,
    spent_seconds double precision not null,
    spent_at timestamptz not null,
    primary key (service, owner)
);

create table idempotency_keys (
    service text not null,
    owner text not null,
    key text not null,
    digest text not null,
    job_id text not null references jobs on delete cascade,
    expires_at timestamptz not null,
    primary key (service, owner, key)
);
create index idempotency_keys_job on idempotency_keys (job_id);
create index idempotency_keys_expiring on idempotency_keys (service, expires_at);

-- Outbox: a row for each end of a job that must be told, gone once it was.
create table webhooks (
    id bigint generated always as identity primary key,
    service text not null,
    job_id text not null references jobs on delete cascade,
    attempts integer not null default 0,
    created_at timestamptz not null default now(),
    next_at timestamptz not null default now()
);
create index webhooks_due on webhooks (service, next_at);
create index webhooks_job on webhooks (job_id);

-- Objects to remove from the bucket. A key that ends in a slash is a folder with all below it.
create table rubbish (
    service text not null,
    key text not null,
    number bigint generated always as identity,
    primary key (service, key)
);
create index rubbish_oldest on rubbish (service, number);

create table workers (
    service text not null,
    name text not null,
    ready boolean not null,
    seen_at timestamptz not null,
    primary key (service, name)
);
