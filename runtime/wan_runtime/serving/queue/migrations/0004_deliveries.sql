-- A Delivery: how far the webhook of a job has come; null before it is sent.
alter table jobs add column delivery json;
