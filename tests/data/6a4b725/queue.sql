SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
CREATE SCHEMA wan_video;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE wan_video.idempotency_keys (
    service text NOT NULL,
    owner text NOT NULL,
    key text NOT NULL,
    digest text NOT NULL,
    job_id text NOT NULL,
    expires_at timestamp with time zone NOT NULL
);
CREATE TABLE wan_video.jobs (
    id text NOT NULL,
    service text NOT NULL,
    number bigint NOT NULL,
    owner text NOT NULL,
    state text DEFAULT 'queued'::text NOT NULL,
    priority integer NOT NULL,
    "order" json NOT NULL,
    image text,
    predicted_seconds double precision NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    started_at timestamp with time zone,
    completed_at timestamp with time zone,
    expires_at timestamp with time zone,
    attempts integer DEFAULT 0 NOT NULL,
    worker text,
    claim uuid,
    lease_until timestamp with time zone,
    last_reason text,
    cancel_requested boolean DEFAULT false NOT NULL,
    deleted boolean DEFAULT false NOT NULL,
    advance json,
    rendered json,
    problem json,
    remixed_from text,
    webhook text,
    track text DEFAULT 'stable'::text NOT NULL,
    revision text DEFAULT ''::text NOT NULL,
    CONSTRAINT jobs_check CHECK (((state = 'running'::text) = (lease_until IS NOT NULL))),
    CONSTRAINT jobs_predicted_seconds_check CHECK ((predicted_seconds > (0)::double precision)),
    CONSTRAINT jobs_state_check CHECK ((state = ANY (ARRAY['queued'::text, 'running'::text, 'completed'::text, 'failed'::text, 'cancelled'::text]))),
    CONSTRAINT jobs_track_check CHECK ((track = ANY (ARRAY['stable'::text, 'canary'::text])))
);
ALTER TABLE wan_video.jobs ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME wan_video.jobs_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE wan_video.migrations (
    number integer NOT NULL,
    breaking boolean NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE wan_video.owners (
    service text NOT NULL,
    owner text NOT NULL,
    spent_seconds double precision NOT NULL,
    spent_at timestamp with time zone NOT NULL
);
CREATE TABLE wan_video.rollouts (
    service text NOT NULL,
    canary text,
    weight integer NOT NULL,
    number bigint DEFAULT 0 NOT NULL
);
CREATE TABLE wan_video.rubbish (
    service text NOT NULL,
    key text NOT NULL,
    number bigint NOT NULL
);
ALTER TABLE wan_video.rubbish ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME wan_video.rubbish_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE wan_video.webhooks (
    id bigint NOT NULL,
    service text NOT NULL,
    job_id text NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    next_at timestamp with time zone DEFAULT now() NOT NULL
);
ALTER TABLE wan_video.webhooks ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME wan_video.webhooks_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE wan_video.workers (
    service text NOT NULL,
    name text NOT NULL,
    ready boolean NOT NULL,
    seen_at timestamp with time zone NOT NULL,
    info json
);
INSERT INTO wan_video.idempotency_keys (service, owner, key, digest, job_id, expires_at) VALUES ('team/demo', 'app', 'once', 'd1', 'video_6a4e4c792b784ee1877b15e44dbbb487', '2026-11-29 23:10:53.39079+00');
INSERT INTO wan_video.jobs (id, service, number, owner, state, priority, "order", image, predicted_seconds, created_at, started_at, completed_at, expires_at, attempts, worker, claim, lease_until, last_reason, cancel_requested, deleted, advance, rendered, problem, remixed_from, webhook, track, revision) OVERRIDING SYSTEM VALUE VALUES ('video_352c5c084cbc4cab8ddc8f448793efa7', 'team/demo', 7, 'app', 'queued', 0, '{"prompt":"handed back","negativePrompt":"","size":{"width":64,"height":64},"frames":17,"fps":16.0,"steps":4,"guidance":5.0,"guidanceLow":5.0,"shift":5.0,"seed":7,"adapters":[{"name":"anime-fairy-lora","strength":0.9,"expert":null}],"model":"wan","image":"runs/team/demo/0a1b2c3d/inputs/handed back.png","visibleMark":false}', 'runs/team/demo/0a1b2c3d/inputs/handed back.png', 60, '2026-11-28 23:10:53.478328+00', NULL, NULL, NULL, 1, NULL, NULL, NULL, 'the node was drained', false, false, NULL, NULL, NULL, NULL, NULL, 'stable', 'a1b2c3');
INSERT INTO wan_video.jobs (id, service, number, owner, state, priority, "order", image, predicted_seconds, created_at, started_at, completed_at, expires_at, attempts, worker, claim, lease_until, last_reason, cancel_requested, deleted, advance, rendered, problem, remixed_from, webhook, track, revision) OVERRIDING SYSTEM VALUE VALUES ('video_3193b67a081f432985ae7782edeb40a3', 'team/demo', 8, 'team', 'queued', 3, '{"prompt":"other owner","negativePrompt":"","size":{"width":64,"height":64},"frames":17,"fps":16.0,"steps":4,"guidance":5.0,"guidanceLow":5.0,"shift":5.0,"seed":7,"adapters":[{"name":"anime-fairy-lora","strength":0.9,"expert":null}],"model":"wan","image":"runs/team/demo/0a1b2c3d/inputs/other owner.png","visibleMark":false}', 'runs/team/demo/0a1b2c3d/inputs/other owner.png', 60, '2026-11-28 23:10:53.497324+00', NULL, NULL, NULL, 0, NULL, NULL, NULL, NULL, false, false, NULL, NULL, NULL, NULL, NULL, 'stable', '');
INSERT INTO wan_video.jobs (id, service, number, owner, state, priority, "order", image, predicted_seconds, created_at, started_at, completed_at, expires_at, attempts, worker, claim, lease_until, last_reason, cancel_requested, deleted, advance, rendered, problem, remixed_from, webhook, track, revision) OVERRIDING SYSTEM VALUE VALUES ('video_41874436d8fb426196e8c1804e4a3ce1', 'team/demo', 9, 'app', 'queued', 0, '{"prompt":"remixed","negativePrompt":"","size":{"width":64,"height":64},"frames":17,"fps":16.0,"steps":4,"guidance":5.0,"guidanceLow":5.0,"shift":5.0,"seed":7,"adapters":[{"name":"anime-fairy-lora","strength":0.9,"expert":null}],"model":"wan","image":"runs/team/demo/0a1b2c3d/inputs/remixed.png","visibleMark":false}', 'runs/team/demo/0a1b2c3d/inputs/remixed.png', 60, '2026-11-28 23:10:53.504321+00', NULL, NULL, NULL, 0, NULL, NULL, NULL, NULL, false, false, NULL, NULL, NULL, 'video_6a4e4c792b784ee1877b15e44dbbb487', NULL, 'stable', '');
INSERT INTO wan_video.jobs (id, service, number, owner, state, priority, "order", image, predicted_seconds, created_at, started_at, completed_at, expires_at, attempts, worker, claim, lease_until, last_reason, cancel_requested, deleted, advance, rendered, problem, remixed_from, webhook, track, revision) OVERRIDING SYSTEM VALUE VALUES ('video_ebcf6b0c3d8140c8b7cea881eb8311d6', 'team/demo', 10, 'app', 'queued', 0, '{"prompt":"canary","negativePrompt":"","size":{"width":64,"height":64},"frames":17,"fps":16.0,"steps":4,"guidance":5.0,"guidanceLow":5.0,"shift":5.0,"seed":7,"adapters":[{"name":"anime-fairy-lora","strength":0.9,"expert":null}],"model":"wan","image":"runs/team/demo/0a1b2c3d/inputs/canary.png","visibleMark":false}', 'runs/team/demo/0a1b2c3d/inputs/canary.png', 60, '2026-11-28 23:10:53.507087+00', NULL, NULL, NULL, 0, NULL, NULL, NULL, NULL, false, false, NULL, NULL, NULL, NULL, NULL, 'canary', '');
INSERT INTO wan_video.jobs (id, service, number, owner, state, priority, "order", image, predicted_seconds, created_at, started_at, completed_at, expires_at, attempts, worker, claim, lease_until, last_reason, cancel_requested, deleted, advance, rendered, problem, remixed_from, webhook, track, revision) OVERRIDING SYSTEM VALUE VALUES ('video_6a4e4c792b784ee1877b15e44dbbb487', 'team/demo', 1, 'app', 'completed', 0, '{"prompt":"completed","negativePrompt":"","size":{"width":64,"height":64},"frames":17,"fps":16.0,"steps":4,"guidance":5.0,"guidanceLow":5.0,"shift":5.0,"seed":7,"adapters":[{"name":"anime-fairy-lora","strength":0.9,"expert":null}],"model":"wan","image":"runs/team/demo/0a1b2c3d/inputs/completed.png","visibleMark":false}', NULL, 60, '2026-11-28 23:10:53.39079+00', '2026-11-28 23:10:53.401627+00', '2026-11-28 23:10:53.414341+00', '2999-01-01 00:00:00+00', 1, 'worker-1', '86f56277-4821-4629-bb49-1b6644ac67fe', NULL, NULL, false, false, NULL, '{"files":{"video":"runs/team/demo/0a1b2c3d/videos/video_6a4e4c792b784ee1877b15e44dbbb487/video.mp4"},"bytes":1000,"sha256":"0000000000000000000000000000000000000000000000000000000000000000","seconds":{"denoising":2.5},"peakGib":null,"weights":""}', NULL, NULL, 'https://example.com/hook', 'stable', 'a1b2c3');
INSERT INTO wan_video.jobs (id, service, number, owner, state, priority, "order", image, predicted_seconds, created_at, started_at, completed_at, expires_at, attempts, worker, claim, lease_until, last_reason, cancel_requested, deleted, advance, rendered, problem, remixed_from, webhook, track, revision) OVERRIDING SYSTEM VALUE VALUES ('video_3454d7c7f03d48c1bbee356f6400e847', 'team/demo', 2, 'app', 'failed', 0, '{"prompt":"failed","negativePrompt":"","size":{"width":64,"height":64},"frames":17,"fps":16.0,"steps":4,"guidance":5.0,"guidanceLow":5.0,"shift":5.0,"seed":7,"adapters":[{"name":"anime-fairy-lora","strength":0.9,"expert":null}],"model":"wan","image":"runs/team/demo/0a1b2c3d/inputs/failed.png","visibleMark":false}', NULL, 60, '2026-11-28 23:10:53.422675+00', '2026-11-28 23:10:53.428368+00', '2026-11-28 23:10:53.435045+00', '2999-01-01 00:00:00+00', 1, 'worker-1', 'cec070f5-90f6-461e-9289-c7f4e5102a16', NULL, NULL, false, false, NULL, NULL, '{"code":"out_of_memory","message":"too large"}', NULL, 'https://example.com/hook', 'stable', 'a1b2c3');
INSERT INTO wan_video.jobs (id, service, number, owner, state, priority, "order", image, predicted_seconds, created_at, started_at, completed_at, expires_at, attempts, worker, claim, lease_until, last_reason, cancel_requested, deleted, advance, rendered, problem, remixed_from, webhook, track, revision) OVERRIDING SYSTEM VALUE VALUES ('video_fd954d8dc2d149f08e4e2fa973e8b9d4', 'team/demo', 3, 'app', 'cancelled', 0, '{"prompt":"cancelled","negativePrompt":"","size":{"width":64,"height":64},"frames":17,"fps":16.0,"steps":4,"guidance":5.0,"guidanceLow":5.0,"shift":5.0,"seed":7,"adapters":[{"name":"anime-fairy-lora","strength":0.9,"expert":null}],"model":"wan","image":"runs/team/demo/0a1b2c3d/inputs/cancelled.png","visibleMark":false}', NULL, 60, '2026-11-28 23:10:53.437677+00', NULL, '2026-11-28 23:10:53.448318+00', '2999-01-01 00:00:00+00', 0, NULL, NULL, NULL, NULL, false, false, NULL, NULL, NULL, NULL, NULL, 'stable', '');
INSERT INTO wan_video.jobs (id, service, number, owner, state, priority, "order", image, predicted_seconds, created_at, started_at, completed_at, expires_at, attempts, worker, claim, lease_until, last_reason, cancel_requested, deleted, advance, rendered, problem, remixed_from, webhook, track, revision) OVERRIDING SYSTEM VALUE VALUES ('video_5b0c5636aa954ec48c1b3d6feee44fa9', 'team/demo', 4, 'app', 'running', 0, '{"prompt":"lost","negativePrompt":"","size":{"width":64,"height":64},"frames":17,"fps":16.0,"steps":4,"guidance":5.0,"guidanceLow":5.0,"shift":5.0,"seed":7,"adapters":[{"name":"anime-fairy-lora","strength":0.9,"expert":null}],"model":"wan","image":"runs/team/demo/0a1b2c3d/inputs/lost.png","visibleMark":false}', 'runs/team/demo/0a1b2c3d/inputs/lost.png', 60, '2026-11-28 23:10:53.453986+00', '2026-11-28 23:10:53.456009+00', NULL, NULL, 1, 'worker-2', '3a6c82ae-6381-459a-86ad-58fe1d14ab81', '2026-11-28 23:10:53.539807+00', NULL, false, false, '{"stage":"denoising","step":2,"steps":4,"etaSeconds":9.0}', NULL, NULL, NULL, NULL, 'stable', 'a1b2c3');
INSERT INTO wan_video.jobs (id, service, number, owner, state, priority, "order", image, predicted_seconds, created_at, started_at, completed_at, expires_at, attempts, worker, claim, lease_until, last_reason, cancel_requested, deleted, advance, rendered, problem, remixed_from, webhook, track, revision) OVERRIDING SYSTEM VALUE VALUES ('video_22bc44976eba4e82b726ac4176d80d62', 'team/demo', 5, 'app', 'running', 0, '{"prompt":"stopping","negativePrompt":"","size":{"width":64,"height":64},"frames":17,"fps":16.0,"steps":4,"guidance":5.0,"guidanceLow":5.0,"shift":5.0,"seed":7,"adapters":[{"name":"anime-fairy-lora","strength":0.9,"expert":null}],"model":"wan","image":"runs/team/demo/0a1b2c3d/inputs/stopping.png","visibleMark":false}', 'runs/team/demo/0a1b2c3d/inputs/stopping.png', 60, '2026-11-28 23:10:53.459319+00', '2026-11-28 23:10:53.460726+00', NULL, NULL, 1, 'worker-3', 'bbb92abf-f66b-4c76-80ee-492d3d2225c4', '2026-11-28 23:10:53.539807+00', NULL, true, false, NULL, NULL, NULL, NULL, NULL, 'stable', 'a1b2c3');
INSERT INTO wan_video.jobs (id, service, number, owner, state, priority, "order", image, predicted_seconds, created_at, started_at, completed_at, expires_at, attempts, worker, claim, lease_until, last_reason, cancel_requested, deleted, advance, rendered, problem, remixed_from, webhook, track, revision) OVERRIDING SYSTEM VALUE VALUES ('video_ebaeac2706c74a66a5c577a1737c5edf', 'team/demo', 6, 'app', 'running', 0, '{"prompt":"deleted","negativePrompt":"","size":{"width":64,"height":64},"frames":17,"fps":16.0,"steps":4,"guidance":5.0,"guidanceLow":5.0,"shift":5.0,"seed":7,"adapters":[{"name":"anime-fairy-lora","strength":0.9,"expert":null}],"model":"wan","image":"runs/team/demo/0a1b2c3d/inputs/deleted.png","visibleMark":false}', 'runs/team/demo/0a1b2c3d/inputs/deleted.png', 60, '2026-11-28 23:10:53.46704+00', '2026-11-28 23:10:53.471788+00', NULL, NULL, 1, 'worker-4', 'efd77650-5670-4e2f-9183-d6193be034ce', '2026-11-28 23:10:53.539807+00', NULL, true, true, NULL, NULL, NULL, NULL, NULL, 'stable', 'a1b2c3');
INSERT INTO wan_video.migrations (number, breaking, applied_at) VALUES (1, false, '2026-11-28 23:10:53.310631+00');
INSERT INTO wan_video.migrations (number, breaking, applied_at) VALUES (2, false, '2026-11-28 23:10:53.310631+00');
INSERT INTO wan_video.migrations (number, breaking, applied_at) VALUES (3, false, '2026-11-28 23:10:53.310631+00');
INSERT INTO wan_video.owners (service, owner, spent_seconds, spent_at) VALUES ('team/demo', 'app', 180.0182434458968, '2026-11-28 23:10:53.488656+00');
INSERT INTO wan_video.rollouts (service, canary, weight, number) VALUES ('team/demo', 'd4e5f6', 100, 2);
INSERT INTO wan_video.rubbish (service, key, number) OVERRIDING SYSTEM VALUE VALUES ('team/demo', 'runs/team/demo/0a1b2c3d/inputs/completed.png', 1);
INSERT INTO wan_video.rubbish (service, key, number) OVERRIDING SYSTEM VALUE VALUES ('team/demo', 'runs/team/demo/0a1b2c3d/inputs/failed.png', 2);
INSERT INTO wan_video.rubbish (service, key, number) OVERRIDING SYSTEM VALUE VALUES ('team/demo', 'runs/team/demo/0a1b2c3d/videos/video_3454d7c7f03d48c1bbee356f6400e847/', 3);
INSERT INTO wan_video.rubbish (service, key, number) OVERRIDING SYSTEM VALUE VALUES ('team/demo', 'runs/team/demo/0a1b2c3d/inputs/cancelled.png', 4);
INSERT INTO wan_video.rubbish (service, key, number) OVERRIDING SYSTEM VALUE VALUES ('team/demo', 'runs/team/demo/0a1b2c3d/videos/video_fd954d8dc2d149f08e4e2fa973e8b9d4/', 5);
INSERT INTO wan_video.webhooks (id, service, job_id, attempts, created_at, next_at) OVERRIDING SYSTEM VALUE VALUES (1, 'team/demo', 'video_6a4e4c792b784ee1877b15e44dbbb487', 0, '2026-11-28 23:10:53.414341+00', '2026-11-28 23:10:53.414341+00');
INSERT INTO wan_video.webhooks (id, service, job_id, attempts, created_at, next_at) OVERRIDING SYSTEM VALUE VALUES (2, 'team/demo', 'video_3454d7c7f03d48c1bbee356f6400e847', 0, '2026-11-28 23:10:53.435045+00', '2026-11-28 23:10:53.435045+00');
INSERT INTO wan_video.workers (service, name, ready, seen_at, info) VALUES ('team/demo', 'worker-1', true, '2026-11-28 23:10:53.387548+00', '{"name":"worker-1","pod":"","revision":"a1b2c3","ready":true,"stopping":false,"busy":false,"ranks":1,"startup":null,"secondsPerClip":{},"peakGib":null,"adapters":["anime-fairy-lora"],"adapterNotes":[],"attention":"","device":"","problem":null}');
SELECT pg_catalog.setval('wan_video.jobs_number_seq', 10, true);
SELECT pg_catalog.setval('wan_video.rubbish_number_seq', 5, true);
SELECT pg_catalog.setval('wan_video.webhooks_id_seq', 2, true);
ALTER TABLE ONLY wan_video.idempotency_keys
    ADD CONSTRAINT idempotency_keys_pkey PRIMARY KEY (service, owner, key);
ALTER TABLE ONLY wan_video.jobs
    ADD CONSTRAINT jobs_pkey PRIMARY KEY (id);
ALTER TABLE ONLY wan_video.migrations
    ADD CONSTRAINT migrations_pkey PRIMARY KEY (number);
ALTER TABLE ONLY wan_video.owners
    ADD CONSTRAINT owners_pkey PRIMARY KEY (service, owner);
ALTER TABLE ONLY wan_video.rollouts
    ADD CONSTRAINT rollouts_pkey PRIMARY KEY (service);
ALTER TABLE ONLY wan_video.rubbish
    ADD CONSTRAINT rubbish_pkey PRIMARY KEY (service, key);
ALTER TABLE ONLY wan_video.webhooks
    ADD CONSTRAINT webhooks_pkey PRIMARY KEY (id);
ALTER TABLE ONLY wan_video.workers
    ADD CONSTRAINT workers_pkey PRIMARY KEY (service, name);
CREATE INDEX idempotency_keys_expiring ON wan_video.idempotency_keys USING btree (service, expires_at);
CREATE INDEX idempotency_keys_job ON wan_video.idempotency_keys USING btree (job_id);
CREATE INDEX jobs_ended ON wan_video.jobs USING btree (service, completed_at) WHERE (completed_at IS NOT NULL);
CREATE INDEX jobs_expiring ON wan_video.jobs USING btree (service, expires_at) WHERE (expires_at IS NOT NULL);
CREATE INDEX jobs_listed ON wan_video.jobs USING btree (service, owner, number) WHERE (NOT deleted);
CREATE INDEX jobs_unfinished ON wan_video.jobs USING btree (service, owner) WHERE (state = ANY (ARRAY['queued'::text, 'running'::text]));
CREATE INDEX rubbish_oldest ON wan_video.rubbish USING btree (service, number);
CREATE INDEX webhooks_due ON wan_video.webhooks USING btree (service, next_at);
CREATE INDEX webhooks_job ON wan_video.webhooks USING btree (job_id);
ALTER TABLE ONLY wan_video.idempotency_keys
    ADD CONSTRAINT idempotency_keys_job_id_fkey FOREIGN KEY (job_id) REFERENCES wan_video.jobs(id) ON DELETE CASCADE;
ALTER TABLE ONLY wan_video.webhooks
    ADD CONSTRAINT webhooks_job_id_fkey FOREIGN KEY (job_id) REFERENCES wan_video.jobs(id) ON DELETE CASCADE;
