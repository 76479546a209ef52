-- Choices of the request and its effect: by them a worker settles what it renders by its own
-- defaults. Null: by a gateway of an earlier release.
alter table jobs add column choices json;
