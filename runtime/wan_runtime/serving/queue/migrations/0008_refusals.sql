-- Problems of revisions whose workers cannot render the job as it was chosen, by revision: it waits
-- for others, and fails once none is left.
alter table jobs add column refusals json;
-- By which the newest revision is told.
alter table workers add column began_at timestamptz not null default now();
