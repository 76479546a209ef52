-- What workers tell of themselves, and which videos a revision that is tried out gets.

alter table jobs
    add column track text not null default 'stable' check (track in ('stable', 'canary')),
    -- Of the service, that the worker belongs to which renders it, or did last.
    add column revision text not null default '';
create index jobs_ended on jobs (service, completed_at) where completed_at is not null;

-- A WorkerInfo; null of a release that tells nothing.
alter table workers add column info json;

-- The canary that claims and submissions go by now. Gateways copy it here from what the operator
-- mounts: workers then need not see their own mounts change, and all change at once.
create table rollouts (
    service text primary key,
    canary text,
    weight integer not null
);
