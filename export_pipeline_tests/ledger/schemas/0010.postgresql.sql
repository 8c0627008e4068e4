CREATE TABLE public.acceptances (
    manifest_id character varying(32) NOT NULL,
    subscription_id integer NOT NULL,
    round integer NOT NULL,
    n integer NOT NULL,
    accepted integer NOT NULL,
    refused integer NOT NULL,
    filtered integer NOT NULL,
    accepted_at timestamp without time zone NOT NULL
);
CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.backfill_days (
    source_url text NOT NULL,
    backfill_id character varying(64) NOT NULL,
    day date NOT NULL,
    subscribers text NOT NULL,
    again boolean NOT NULL,
    asked_at timestamp without time zone NOT NULL,
    settled_at timestamp without time zone
);
CREATE TABLE public.batches (
    manifest_id character varying(32) NOT NULL,
    n integer NOT NULL,
    events integer NOT NULL,
    size_bytes bigint NOT NULL,
    crc32 bigint NOT NULL,
    file_positions text NOT NULL
);
CREATE TABLE public.deliveries (
    manifest_id character varying(32) NOT NULL,
    subscription_id integer NOT NULL,
    day date NOT NULL,
    first_key text NOT NULL COLLATE pg_catalog."C",
    state character varying(12) NOT NULL,
    round integer NOT NULL,
    owed_at timestamp without time zone NOT NULL,
    attempts integer NOT NULL,
    last_run_id character varying(64),
    last_error text,
    delivered_at timestamp without time zone,
    accepted bigint,
    refused bigint,
    filtered bigint
);
CREATE TABLE public.files (
    source_id integer NOT NULL,
    key text NOT NULL COLLATE pg_catalog."C",
    etag character varying(256) NOT NULL,
    size_bytes bigint NOT NULL,
    last_modified timestamp without time zone NOT NULL,
    day date NOT NULL,
    manifest_id character varying(32),
    seen_at timestamp without time zone NOT NULL,
    note text
);
CREATE TABLE public.folded (
    manifest_id character varying(32) NOT NULL,
    source_id integer NOT NULL,
    day date NOT NULL,
    first_key text NOT NULL COLLATE pg_catalog."C",
    last_key text NOT NULL COLLATE pg_catalog."C",
    files integer NOT NULL,
    first_modified timestamp without time zone NOT NULL,
    fingerprints bytea NOT NULL,
    batches bytea NOT NULL
);
CREATE TABLE public.identity (
    n integer NOT NULL,
    id character varying(32) NOT NULL
);
CREATE TABLE public.manifests (
    id character varying(32) NOT NULL,
    source_id integer NOT NULL,
    origin character varying(12) NOT NULL,
    day date NOT NULL,
    first_key text NOT NULL COLLATE pg_catalog."C",
    files integer NOT NULL,
    size_bytes bigint NOT NULL,
    max_events integer NOT NULL,
    max_bytes bigint NOT NULL,
    state character varying(12) NOT NULL,
    planned_at timestamp without time zone NOT NULL,
    planned_by_run character varying(64) NOT NULL,
    read_at timestamp without time zone,
    read_attempts integer NOT NULL,
    last_error text,
    successor_id character varying(32),
    bytes_unpacked bigint,
    batches integer,
    events_framed bigint,
    events_batched bigint,
    events_quarantined bigint,
    folded_at timestamp without time zone,
    tried_at timestamp without time zone,
    reading_run_id character varying(64),
    reading_deaths integer,
    read_limits text,
    events_of_files text,
    part_of character varying(32),
    part_files text
);
CREATE TABLE public.portions (
    manifest_id character varying(32) NOT NULL,
    subscription_id integer NOT NULL,
    round integer NOT NULL,
    n integer NOT NULL,
    step integer NOT NULL,
    steps bytea NOT NULL
);
CREATE TABLE public.quarantined (
    source_id integer NOT NULL,
    name character varying(256) NOT NULL,
    key text NOT NULL COLLATE pg_catalog."C",
    state character varying(12) NOT NULL,
    manifest_id character varying(32) NOT NULL,
    day date NOT NULL,
    kind character varying(12) NOT NULL,
    subscriber character varying(64) NOT NULL,
    etag character varying(256) NOT NULL,
    first_offset bigint NOT NULL,
    reason text NOT NULL,
    records bigint NOT NULL,
    size_bytes bigint NOT NULL,
    kept_at timestamp without time zone NOT NULL,
    kept_by character varying(128) NOT NULL,
    changed_at timestamp without time zone,
    changed_by character varying(128),
    why text
);
CREATE TABLE public.sources (
    id integer NOT NULL,
    url text NOT NULL,
    more_to_list boolean NOT NULL,
    folded_before date,
    listed_at timestamp without time zone,
    listing_began_at timestamp without time zone,
    listing_after text COLLATE pg_catalog."C",
    frontier text COLLATE pg_catalog."C",
    complete_at timestamp without time zone,
    start_date date,
    first_day date
);
CREATE SEQUENCE public.sources_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.sources_id_seq OWNED BY public.sources.id;
CREATE TABLE public.subscriptions (
    id integer NOT NULL,
    source_id integer NOT NULL,
    name character varying(64) NOT NULL,
    since character varying(32),
    start_day date,
    start_at timestamp without time zone,
    created_at timestamp without time zone NOT NULL,
    inactive_since timestamp without time zone,
    last_success_at timestamp without time zone,
    last_error text,
    last_error_at timestamp without time zone,
    last_error_run_id character varying(64),
    spent_run_id character varying(64),
    spent_seconds double precision,
    is_blocked boolean DEFAULT false NOT NULL
);
CREATE SEQUENCE public.subscriptions_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.subscriptions_id_seq OWNED BY public.subscriptions.id;
ALTER TABLE ONLY public.sources ALTER COLUMN id SET DEFAULT nextval('public.sources_id_seq'::regclass);
ALTER TABLE ONLY public.subscriptions ALTER COLUMN id SET DEFAULT nextval('public.subscriptions_id_seq'::regclass);
INSERT INTO public.acceptances VALUES ('49884a634387defbfa49fd20', 1, 1, 0, 2, 1, 0, '2026-11-23 12:00:00');
INSERT INTO public.acceptances VALUES ('49884a634387defbfa49fd20', 1, 1, 1, 1, 0, 1, '2026-11-23 12:00:00');
INSERT INTO public.acceptances VALUES ('49884a634387defbfa49fd20', 2, 1, 0, 2, 1, 0, '2026-11-23 12:00:00');
INSERT INTO public.acceptances VALUES ('49884a634387defbfa49fd20', 2, 1, 1, 1, 0, 1, '2026-11-23 12:00:00');
INSERT INTO public.acceptances VALUES ('4fe09210fba0560022ddc242', 1, 1, 0, 3, 0, 0, '2026-11-23 12:00:00');
INSERT INTO public.alembic_version VALUES ('0010');
INSERT INTO public.backfill_days VALUES ('file:///bucket', 'bf-1', '2026-11-01', '["crm"]', false, '2026-11-23 12:00:00', NULL);
INSERT INTO public.batches VALUES ('49884a634387defbfa49fd20', 0, 3, 30, 1, '[0,1]');
INSERT INTO public.batches VALUES ('49884a634387defbfa49fd20', 1, 2, 20, 2, '[1]');
INSERT INTO public.batches VALUES ('4fe09210fba0560022ddc242', 0, 3, 30, 1, '[0,1]');
INSERT INTO public.batches VALUES ('4fe09210fba0560022ddc242', 1, 2, 20, 2, '[1]');
INSERT INTO public.deliveries VALUES ('4fe09210fba0560022ddc242', 1, '2026-11-23', '2026/11/23/00/a.gz', 'owed', 1, '2026-11-23 12:00:00', 0, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.deliveries VALUES ('4fe09210fba0560022ddc242', 2, '2026-11-23', '2026/11/23/00/a.gz', 'owed', 1, '2026-11-23 12:00:00', 0, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.deliveries VALUES ('cbbb156bf5f7e1c2544e27aa', 1, '2026-11-23', '2026/11/23/00/c é.gz', 'owed', 1, '2026-11-23 12:00:00', 0, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.deliveries VALUES ('cbbb156bf5f7e1c2544e27aa', 2, '2026-11-23', '2026/11/23/00/c é.gz', 'owed', 1, '2026-11-23 12:00:00', 0, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.deliveries VALUES ('49884a634387defbfa49fd20', 1, '2026-11-01', '2026/11/01/00/a.gz', 'delivered', 1, '2026-11-23 12:00:00', 1, 'run-1', NULL, '2026-11-23 12:00:00', 3, 1, 1);
INSERT INTO public.deliveries VALUES ('49884a634387defbfa49fd20', 2, '2026-11-01', '2026/11/01/00/a.gz', 'delivered', 1, '2026-11-23 12:00:00', 1, 'run-1', NULL, '2026-11-23 12:00:00', 3, 1, 1);
INSERT INTO public.deliveries VALUES ('a166e8cd9dcfb01c8d3c4d2b', 1, '2026-11-01', '2026/11/01/00/d.gz', 'owed', 1, '2026-11-23 12:00:00', 0, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.deliveries VALUES ('a166e8cd9dcfb01c8d3c4d2b', 2, '2026-11-01', '2026/11/01/00/d.gz', 'owed', 1, '2026-11-23 12:00:00', 0, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.deliveries VALUES ('3c21e25f2b20a639959b1160', 1, '2026-11-01', '2026/11/01/00/c é.gz', 'owed', 1, '2026-11-23 12:00:00', 0, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.deliveries VALUES ('3c21e25f2b20a639959b1160', 2, '2026-11-01', '2026/11/01/00/c é.gz', 'owed', 1, '2026-11-23 12:00:00', 0, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.files VALUES (1, '2026/11/01/00/a.gz', 'ea', 10, '2026-11-01 12:00:00', '2026-11-01', '49884a634387defbfa49fd20', '2026-11-23 12:00:00', NULL);
INSERT INTO public.files VALUES (1, '2026/11/01/00/b.gz', 'eb', 10, '2026-11-01 12:00:00', '2026-11-01', '49884a634387defbfa49fd20', '2026-11-23 12:00:00', NULL);
INSERT INTO public.files VALUES (1, '2026/11/23/00/a.gz', 'ea', 10, '2026-11-23 12:00:00', '2026-11-23', '4fe09210fba0560022ddc242', '2026-11-23 12:00:00', NULL);
INSERT INTO public.files VALUES (1, '2026/11/23/00/b.gz', 'eb', 10, '2026-11-23 12:00:00', '2026-11-23', '4fe09210fba0560022ddc242', '2026-11-23 12:00:00', NULL);
INSERT INTO public.files VALUES (1, '2026/11/23/00/c é.gz', 'ec é', 10, '2026-11-23 12:00:00', '2026-11-23', 'cbbb156bf5f7e1c2544e27aa', '2026-11-23 12:00:00', NULL);
INSERT INTO public.files VALUES (1, '2026/11/23/00/d.gz', 'ed', 10, '2026-11-23 12:00:00', '2026-11-23', 'cbbb156bf5f7e1c2544e27aa', '2026-11-23 12:00:00', NULL);
INSERT INTO public.files VALUES (1, '2026/11/01/00/a.gz', 'e2', 10, '2026-11-23 12:00:00', '2026-11-01', NULL, '2026-11-23 12:00:00', 'ignored');
INSERT INTO public.files VALUES (1, '2026/11/01/00/d.gz', 'ed', 10, '2026-11-01 12:00:00', '2026-11-01', 'a166e8cd9dcfb01c8d3c4d2b', '2026-11-23 12:00:00', NULL);
INSERT INTO public.files VALUES (1, '2026/11/01/00/c é.gz', 'ec é', 10, '2026-11-01 12:00:00', '2026-11-01', '3c21e25f2b20a639959b1160', '2026-11-23 12:00:00', NULL);
INSERT INTO public.identity VALUES (1, '5d1f1c4a9f0f4f6d8f3b2a1c0e9d8c7b');
INSERT INTO public.manifests VALUES ('cbbb156bf5f7e1c2544e27aa', 1, 'source', '2026-11-23', '2026/11/23/00/c é.gz', 2, 20, 10, 1000, 'planned', '2026-11-23 12:00:00', 'run-1', NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.manifests VALUES ('49884a634387defbfa49fd20', 1, 'source', '2026-11-01', '2026/11/01/00/a.gz', 2, 20, 10, 1000, 'read', '2026-11-23 12:00:00', 'run-1', '2026-11-23 12:00:00', 0, NULL, NULL, 60, 2, 6, 5, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.manifests VALUES ('a166e8cd9dcfb01c8d3c4d2b', 1, 'source', '2026-11-01', '2026/11/01/00/d.gz', 1, 10, 10, 1000, 'planned', '2026-11-23 12:00:00', 'run-1', NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.manifests VALUES ('3c21e25f2b20a639959b1160', 1, 'source', '2026-11-01', '2026/11/01/00/c é.gz', 1, 10, 10, 1000, 'planned', '2026-11-23 12:00:00', 'run-1', NULL, 1, 'truncated', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.manifests VALUES ('57d283798b29884e791e993b', 1, 'source', '2026-11-01', '2026/11/01/00/c é.gz', 2, 20, 10, 1000, 'superseded', '2026-11-23 12:00:00', 'run-1', NULL, 0, NULL, 'a166e8cd9dcfb01c8d3c4d2b', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.manifests VALUES ('4fe09210fba0560022ddc242', 1, 'source', '2026-11-23', '2026/11/23/00/a.gz', 2, 20, 10, 1000, 'read', '2026-11-23 12:00:00', 'run-1', '2026-11-23 12:00:00', 0, NULL, NULL, 60, 2, 6, 5, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.portions VALUES ('3c21e25f2b20a639959b1160', 2, 1, 0, 0, '\x7801258b410a80201444af12b32e5023c1ae121166ffb7117ea5ada2bb67b51998796f860bc2e8d106a3c9746c66a3bc6d9debdcacb5558d420d1f026d9916f4c358e3203ed35b2ee8f2cc2295c405f74bf693524ebfc772ac94d3f4f93e96954bd23d3eb6e824ba');
INSERT INTO public.sources VALUES (1, 'file:///bucket', false, NULL, NULL, NULL, NULL, '2026/11/23/00/c é.gz', '2026-11-23 12:00:00', '2020-01-01', '2026-11-01');
INSERT INTO public.subscriptions VALUES (1, 1, 'crm', NULL, NULL, NULL, '2026-11-23 12:00:00', NULL, '2026-11-23 12:00:00', NULL, NULL, NULL, NULL, NULL, false);
INSERT INTO public.subscriptions VALUES (2, 1, 'dwh', NULL, NULL, NULL, '2026-11-23 12:00:00', NULL, '2026-11-23 12:00:00', NULL, NULL, NULL, NULL, NULL, false);
SELECT pg_catalog.setval('public.sources_id_seq', 1, true);
SELECT pg_catalog.setval('public.subscriptions_id_seq', 2, true);
ALTER TABLE ONLY public.acceptances
    ADD CONSTRAINT acceptances_pkey PRIMARY KEY (manifest_id, subscription_id, round, n);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.backfill_days
    ADD CONSTRAINT backfill_days_pkey PRIMARY KEY (source_url, backfill_id, day);
ALTER TABLE ONLY public.batches
    ADD CONSTRAINT batches_pkey PRIMARY KEY (manifest_id, n);
ALTER TABLE ONLY public.deliveries
    ADD CONSTRAINT deliveries_pkey PRIMARY KEY (manifest_id, subscription_id);
ALTER TABLE ONLY public.files
    ADD CONSTRAINT files_pkey PRIMARY KEY (source_id, key, etag);
ALTER TABLE ONLY public.folded
    ADD CONSTRAINT folded_pkey PRIMARY KEY (manifest_id);
ALTER TABLE ONLY public.identity
    ADD CONSTRAINT identity_pkey PRIMARY KEY (n);
ALTER TABLE ONLY public.manifests
    ADD CONSTRAINT manifests_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.portions
    ADD CONSTRAINT portions_pkey PRIMARY KEY (manifest_id, subscription_id, round, n, step);
ALTER TABLE ONLY public.quarantined
    ADD CONSTRAINT quarantined_pkey PRIMARY KEY (source_id, name, key, state);
ALTER TABLE ONLY public.sources
    ADD CONSTRAINT sources_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.sources
    ADD CONSTRAINT sources_url_key UNIQUE (url);
ALTER TABLE ONLY public.subscriptions
    ADD CONSTRAINT subscriptions_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.subscriptions
    ADD CONSTRAINT uq_subscriptions_source_id_name UNIQUE (source_id, name);
CREATE INDEX ix_backfill_days_unsettled ON public.backfill_days USING btree (source_url, day) WHERE (settled_at IS NULL);
CREATE INDEX ix_deliveries_last_run_id ON public.deliveries USING btree (last_run_id);
CREATE INDEX ix_deliveries_owed ON public.deliveries USING btree (subscription_id, day, first_key) WHERE ((state)::text = 'owed'::text);
CREATE INDEX ix_files_manifest_id ON public.files USING btree (manifest_id);
CREATE INDEX ix_folded_day ON public.folded USING btree (source_id, day, first_key);
CREATE INDEX ix_manifests_day ON public.manifests USING btree (source_id, day);
CREATE INDEX ix_manifests_not_folded ON public.manifests USING btree (source_id, day) WHERE (folded_at IS NULL);
CREATE INDEX ix_manifests_part_of ON public.manifests USING btree (part_of) WHERE (part_of IS NOT NULL);
CREATE INDEX ix_manifests_read_at ON public.manifests USING btree (source_id, read_at);
CREATE INDEX ix_manifests_troubled ON public.manifests USING btree (source_id) WHERE ((last_error IS NOT NULL) OR (reading_run_id IS NOT NULL));
CREATE INDEX ix_manifests_unreadable ON public.manifests USING btree (source_id) WHERE (read_attempts > 0);
CREATE INDEX ix_quarantined_day ON public.quarantined USING btree (source_id, day);
CREATE INDEX ix_quarantined_key ON public.quarantined USING btree (source_id, key);
CREATE INDEX ix_quarantined_manifest_id ON public.quarantined USING btree (manifest_id);
ALTER TABLE ONLY public.acceptances
    ADD CONSTRAINT acceptances_manifest_id_fkey FOREIGN KEY (manifest_id) REFERENCES public.manifests(id);
ALTER TABLE ONLY public.acceptances
    ADD CONSTRAINT acceptances_subscription_id_fkey FOREIGN KEY (subscription_id) REFERENCES public.subscriptions(id);
ALTER TABLE ONLY public.batches
    ADD CONSTRAINT batches_manifest_id_fkey FOREIGN KEY (manifest_id) REFERENCES public.manifests(id);
ALTER TABLE ONLY public.deliveries
    ADD CONSTRAINT deliveries_manifest_id_fkey FOREIGN KEY (manifest_id) REFERENCES public.manifests(id);
ALTER TABLE ONLY public.deliveries
    ADD CONSTRAINT deliveries_subscription_id_fkey FOREIGN KEY (subscription_id) REFERENCES public.subscriptions(id);
ALTER TABLE ONLY public.files
    ADD CONSTRAINT files_manifest_id_fkey FOREIGN KEY (manifest_id) REFERENCES public.manifests(id);
ALTER TABLE ONLY public.files
    ADD CONSTRAINT files_source_id_fkey FOREIGN KEY (source_id) REFERENCES public.sources(id);
ALTER TABLE ONLY public.folded
    ADD CONSTRAINT folded_manifest_id_fkey FOREIGN KEY (manifest_id) REFERENCES public.manifests(id);
ALTER TABLE ONLY public.folded
    ADD CONSTRAINT folded_source_id_fkey FOREIGN KEY (source_id) REFERENCES public.sources(id);
ALTER TABLE ONLY public.manifests
    ADD CONSTRAINT manifests_source_id_fkey FOREIGN KEY (source_id) REFERENCES public.sources(id);
ALTER TABLE ONLY public.manifests
    ADD CONSTRAINT manifests_successor_id_fkey FOREIGN KEY (successor_id) REFERENCES public.manifests(id);
ALTER TABLE ONLY public.portions
    ADD CONSTRAINT portions_manifest_id_fkey FOREIGN KEY (manifest_id) REFERENCES public.manifests(id);
ALTER TABLE ONLY public.portions
    ADD CONSTRAINT portions_subscription_id_fkey FOREIGN KEY (subscription_id) REFERENCES public.subscriptions(id);
ALTER TABLE ONLY public.quarantined
    ADD CONSTRAINT quarantined_source_id_fkey FOREIGN KEY (source_id) REFERENCES public.sources(id);
ALTER TABLE ONLY public.subscriptions
    ADD CONSTRAINT subscriptions_source_id_fkey FOREIGN KEY (source_id) REFERENCES public.sources(id);
