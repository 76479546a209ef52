-- The end user of the client, as the request named it.
alter table jobs add column end_user text;
