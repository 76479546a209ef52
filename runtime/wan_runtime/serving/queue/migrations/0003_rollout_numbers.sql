-- Of what the operator mounts: a gateway whose mount is refreshed late takes nothing back.
alter table rollouts add column number bigint not null default 0;
