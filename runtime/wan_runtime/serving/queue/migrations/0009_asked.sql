-- The order and its predicted seconds as a gateway queued them, before a worker settled them: what
-- is handed back is queued so.
alter table jobs add column asked json, add column asked_seconds float8;
