BEGIN TRANSACTION;
CREATE TABLE acceptances (
	manifest_id VARCHAR(32) NOT NULL,
	subscription_id INTEGER NOT NULL,
	round INTEGER NOT NULL,
	n INTEGER NOT NULL,
	accepted INTEGER NOT NULL,
	refused INTEGER NOT NULL,
	filtered INTEGER NOT NULL,
	accepted_at DATETIME NOT NULL,
	PRIMARY KEY (manifest_id, subscription_id, round, n),
	FOREIGN KEY(manifest_id) REFERENCES manifests (id),
	FOREIGN KEY(subscription_id) REFERENCES subscriptions (id)
)
 WITHOUT ROWID

;
INSERT INTO "acceptances" VALUES('49884a634387defbfa49fd20',1,1,0,2,1,0,'2026-11-23 12:00:00.000000');
INSERT INTO "acceptances" VALUES('49884a634387defbfa49fd20',1,1,1,1,0,1,'2026-11-23 12:00:00.000000');
INSERT INTO "acceptances" VALUES('49884a634387defbfa49fd20',2,1,0,2,1,0,'2026-11-23 12:00:00.000000');
INSERT INTO "acceptances" VALUES('49884a634387defbfa49fd20',2,1,1,1,0,1,'2026-11-23 12:00:00.000000');
INSERT INTO "acceptances" VALUES('4fe09210fba0560022ddc242',1,1,0,3,0,0,'2026-11-23 12:00:00.000000');
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL,
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0010');
CREATE TABLE backfill_days (
	source_url TEXT NOT NULL, 
	backfill_id VARCHAR(64) NOT NULL, 
	day DATE NOT NULL, 
	subscribers TEXT NOT NULL, 
	again BOOLEAN NOT NULL, 
	asked_at DATETIME NOT NULL, 
	settled_at DATETIME, 
	PRIMARY KEY (source_url, backfill_id, day)
);
INSERT INTO "backfill_days" VALUES('file:///bucket','bf-1','2026-11-01','["crm"]',0,'2026-11-23 12:00:00.000000',NULL);
CREATE TABLE batches (
	manifest_id VARCHAR(32) NOT NULL,
	n INTEGER NOT NULL,
	events INTEGER NOT NULL,
	size_bytes BIGINT NOT NULL,
	crc32 BIGINT NOT NULL,
	file_positions TEXT NOT NULL,
	PRIMARY KEY (manifest_id, n),
	FOREIGN KEY(manifest_id) REFERENCES manifests (id)
)
 WITHOUT ROWID

;
INSERT INTO "batches" VALUES('49884a634387defbfa49fd20',0,3,30,1,'[0,1]');
INSERT INTO "batches" VALUES('49884a634387defbfa49fd20',1,2,20,2,'[1]');
INSERT INTO "batches" VALUES('4fe09210fba0560022ddc242',0,3,30,1,'[0,1]');
INSERT INTO "batches" VALUES('4fe09210fba0560022ddc242',1,2,20,2,'[1]');
CREATE TABLE deliveries (
	manifest_id VARCHAR(32) NOT NULL,
	subscription_id INTEGER NOT NULL,
	day DATE NOT NULL,
	first_key TEXT NOT NULL,
	state VARCHAR(12) NOT NULL,
	round INTEGER NOT NULL,
	owed_at DATETIME NOT NULL,
	attempts INTEGER NOT NULL,
	last_run_id VARCHAR(64),
	last_error TEXT,
	delivered_at DATETIME,
	accepted BIGINT,
	refused BIGINT,
	filtered BIGINT,
	PRIMARY KEY (manifest_id, subscription_id),
	FOREIGN KEY(manifest_id) REFERENCES manifests (id),
	FOREIGN KEY(subscription_id) REFERENCES subscriptions (id)
);
INSERT INTO "deliveries" VALUES('49884a634387defbfa49fd20',1,'2026-11-01','2026/11/01/00/a.gz','delivered',1,'2026-11-23 12:00:00.000000',1,'run-1',NULL,'2026-11-23 12:00:00.000000',3,1,1);
INSERT INTO "deliveries" VALUES('49884a634387defbfa49fd20',2,'2026-11-01','2026/11/01/00/a.gz','delivered',1,'2026-11-23 12:00:00.000000',1,'run-1',NULL,'2026-11-23 12:00:00.000000',3,1,1);
INSERT INTO "deliveries" VALUES('4fe09210fba0560022ddc242',1,'2026-11-23','2026/11/23/00/a.gz','owed',1,'2026-11-23 12:00:00.000000',0,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "deliveries" VALUES('4fe09210fba0560022ddc242',2,'2026-11-23','2026/11/23/00/a.gz','owed',1,'2026-11-23 12:00:00.000000',0,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "deliveries" VALUES('cbbb156bf5f7e1c2544e27aa',1,'2026-11-23','2026/11/23/00/c é.gz','owed',1,'2026-11-23 12:00:00.000000',0,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "deliveries" VALUES('cbbb156bf5f7e1c2544e27aa',2,'2026-11-23','2026/11/23/00/c é.gz','owed',1,'2026-11-23 12:00:00.000000',0,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "deliveries" VALUES('a166e8cd9dcfb01c8d3c4d2b',1,'2026-11-01','2026/11/01/00/d.gz','owed',1,'2026-11-23 12:00:00.000000',0,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "deliveries" VALUES('a166e8cd9dcfb01c8d3c4d2b',2,'2026-11-01','2026/11/01/00/d.gz','owed',1,'2026-11-23 12:00:00.000000',0,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "deliveries" VALUES('3c21e25f2b20a639959b1160',1,'2026-11-01','2026/11/01/00/c é.gz','owed',1,'2026-11-23 12:00:00.000000',0,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "deliveries" VALUES('3c21e25f2b20a639959b1160',2,'2026-11-01','2026/11/01/00/c é.gz','owed',1,'2026-11-23 12:00:00.000000',0,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE files (
	source_id INTEGER NOT NULL,
	"key" TEXT NOT NULL,
	etag VARCHAR(256) NOT NULL,
	size_bytes BIGINT NOT NULL,
	last_modified DATETIME NOT NULL,
	day DATE NOT NULL,
	manifest_id VARCHAR(32),
	seen_at DATETIME NOT NULL,
	note TEXT,
	PRIMARY KEY (source_id, "key", etag),
	FOREIGN KEY(manifest_id) REFERENCES manifests (id),
	FOREIGN KEY(source_id) REFERENCES sources (id)
)
 WITHOUT ROWID

;
INSERT INTO "files" VALUES(1,'2026/11/01/00/a.gz','e2',10,'2026-11-23 12:00:00.000000','2026-11-01',NULL,'2026-11-23 12:00:00.000000','ignored');
INSERT INTO "files" VALUES(1,'2026/11/01/00/a.gz','ea',10,'2026-11-01 12:00:00.000000','2026-11-01','49884a634387defbfa49fd20','2026-11-23 12:00:00.000000',NULL);
INSERT INTO "files" VALUES(1,'2026/11/01/00/b.gz','eb',10,'2026-11-01 12:00:00.000000','2026-11-01','49884a634387defbfa49fd20','2026-11-23 12:00:00.000000',NULL);
INSERT INTO "files" VALUES(1,'2026/11/01/00/c é.gz','ec é',10,'2026-11-01 12:00:00.000000','2026-11-01','3c21e25f2b20a639959b1160','2026-11-23 12:00:00.000000',NULL);
INSERT INTO "files" VALUES(1,'2026/11/01/00/d.gz','ed',10,'2026-11-01 12:00:00.000000','2026-11-01','a166e8cd9dcfb01c8d3c4d2b','2026-11-23 12:00:00.000000',NULL);
INSERT INTO "files" VALUES(1,'2026/11/23/00/a.gz','ea',10,'2026-11-23 12:00:00.000000','2026-11-23','4fe09210fba0560022ddc242','2026-11-23 12:00:00.000000',NULL);
INSERT INTO "files" VALUES(1,'2026/11/23/00/b.gz','eb',10,'2026-11-23 12:00:00.000000','2026-11-23','4fe09210fba0560022ddc242','2026-11-23 12:00:00.000000',NULL);
INSERT INTO "files" VALUES(1,'2026/11/23/00/c é.gz','ec é',10,'2026-11-23 12:00:00.000000','2026-11-23','cbbb156bf5f7e1c2544e27aa','2026-11-23 12:00:00.000000',NULL);
INSERT INTO "files" VALUES(1,'2026/11/23/00/d.gz','ed',10,'2026-11-23 12:00:00.000000','2026-11-23','cbbb156bf5f7e1c2544e27aa','2026-11-23 12:00:00.000000',NULL);
CREATE TABLE folded (
	manifest_id VARCHAR(32) NOT NULL, 
	source_id INTEGER NOT NULL, 
	day DATE NOT NULL, 
	first_key TEXT NOT NULL, 
	last_key TEXT NOT NULL, 
	files INTEGER NOT NULL, 
	first_modified DATETIME NOT NULL, 
	fingerprints BLOB NOT NULL, 
	batches BLOB NOT NULL, 
	PRIMARY KEY (manifest_id), 
	FOREIGN KEY(manifest_id) REFERENCES manifests (id), 
	FOREIGN KEY(source_id) REFERENCES sources (id)
);
CREATE TABLE identity (
	n INTEGER NOT NULL, 
	id VARCHAR(32) NOT NULL, 
	PRIMARY KEY (n)
);
INSERT INTO "identity" VALUES(1,'5d1f1c4a9f0f4f6d8f3b2a1c0e9d8c7b');
CREATE TABLE manifests (
	id VARCHAR(32) NOT NULL,
	source_id INTEGER NOT NULL,
	origin VARCHAR(12) NOT NULL,
	day DATE NOT NULL,
	first_key TEXT NOT NULL,
	files INTEGER NOT NULL,
	size_bytes BIGINT NOT NULL,
	max_events INTEGER NOT NULL,
	max_bytes BIGINT NOT NULL,
	state VARCHAR(12) NOT NULL,
	planned_at DATETIME NOT NULL,
	planned_by_run VARCHAR(64) NOT NULL,
	read_at DATETIME,
	read_attempts INTEGER NOT NULL,
	last_error TEXT,
	successor_id VARCHAR(32),
	bytes_unpacked BIGINT,
	batches INTEGER,
	events_framed BIGINT,
	events_batched BIGINT,
	events_quarantined BIGINT, folded_at DATETIME, tried_at DATETIME, reading_run_id VARCHAR(64), reading_deaths INTEGER, read_limits TEXT, events_of_files TEXT, part_of VARCHAR(32), part_files TEXT,
	PRIMARY KEY (id),
	FOREIGN KEY(successor_id) REFERENCES manifests (id),
	FOREIGN KEY(source_id) REFERENCES sources (id)
);
INSERT INTO "manifests" VALUES('49884a634387defbfa49fd20',1,'source','2026-11-01','2026/11/01/00/a.gz',2,20,10,1000,'read','2026-11-23 12:00:00.000000','run-1','2026-11-23 12:00:00.000000',0,NULL,NULL,60,2,6,5,1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "manifests" VALUES('57d283798b29884e791e993b',1,'source','2026-11-01','2026/11/01/00/c é.gz',2,20,10,1000,'superseded','2026-11-23 12:00:00.000000','run-1',NULL,0,NULL,'a166e8cd9dcfb01c8d3c4d2b',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "manifests" VALUES('4fe09210fba0560022ddc242',1,'source','2026-11-23','2026/11/23/00/a.gz',2,20,10,1000,'read','2026-11-23 12:00:00.000000','run-1','2026-11-23 12:00:00.000000',0,NULL,NULL,60,2,6,5,1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "manifests" VALUES('cbbb156bf5f7e1c2544e27aa',1,'source','2026-11-23','2026/11/23/00/c é.gz',2,20,10,1000,'planned','2026-11-23 12:00:00.000000','run-1',NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "manifests" VALUES('a166e8cd9dcfb01c8d3c4d2b',1,'source','2026-11-01','2026/11/01/00/d.gz',1,10,10,1000,'planned','2026-11-23 12:00:00.000000','run-1',NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "manifests" VALUES('3c21e25f2b20a639959b1160',1,'source','2026-11-01','2026/11/01/00/c é.gz',1,10,10,1000,'planned','2026-11-23 12:00:00.000000','run-1',NULL,1,'truncated',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE portions (
	manifest_id VARCHAR(32) NOT NULL, 
	subscription_id INTEGER NOT NULL, 
	round INTEGER NOT NULL, 
	n INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	steps BLOB NOT NULL, 
	PRIMARY KEY (manifest_id, subscription_id, round, n, step), 
	FOREIGN KEY(manifest_id) REFERENCES manifests (id), 
	FOREIGN KEY(subscription_id) REFERENCES subscriptions (id)
);
INSERT INTO "portions" VALUES('3c21e25f2b20a639959b1160',2,1,0,0,X'7801258B410A80201444AF12B32E5023C1AE121166FFB7117EA5ADA2BB67B51998796F860BC2E8D106A3C9746C66A3BC6D9DEBDCACB5558D420D1F026D9916F4C358E3203ED35B2EE8F2CC2295C405F74BF693524EBFC772AC94D3F4F93E96954BD23D3EB6E824BA');
CREATE TABLE quarantined (
	source_id INTEGER NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	"key" TEXT NOT NULL, 
	state VARCHAR(12) NOT NULL, 
	manifest_id VARCHAR(32) NOT NULL, 
	day DATE NOT NULL, 
	kind VARCHAR(12) NOT NULL, 
	subscriber VARCHAR(64) NOT NULL, 
	etag VARCHAR(256) NOT NULL, 
	first_offset BIGINT NOT NULL, 
	reason TEXT NOT NULL, 
	records BIGINT NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	kept_at DATETIME NOT NULL, 
	kept_by VARCHAR(128) NOT NULL, 
	changed_at DATETIME, 
	changed_by VARCHAR(128), 
	why TEXT, 
	PRIMARY KEY (source_id, name, "key", state), 
	FOREIGN KEY(source_id) REFERENCES sources (id)
);
CREATE TABLE sources (
	id INTEGER NOT NULL,
	url TEXT NOT NULL,
	more_to_list BOOLEAN NOT NULL, folded_before DATE, listed_at DATETIME, listing_began_at DATETIME, listing_after TEXT, frontier TEXT, complete_at DATETIME, start_date DATE, first_day DATE,
	PRIMARY KEY (id),
	UNIQUE (url)
);
INSERT INTO "sources" VALUES(1,'file:///bucket',0,NULL,NULL,NULL,NULL,'2026/11/23/00/c é.gz','2026-11-23 12:00:00.000000','2020-01-01','2026-11-01');
CREATE TABLE subscriptions (
	id INTEGER NOT NULL,
	source_id INTEGER NOT NULL,
	name VARCHAR(64) NOT NULL,
	since VARCHAR(32),
	start_day DATE,
	start_at DATETIME,
	created_at DATETIME NOT NULL,
	inactive_since DATETIME,
	last_success_at DATETIME,
	last_error TEXT,
	last_error_at DATETIME,
	last_error_run_id VARCHAR(64), spent_run_id VARCHAR(64), spent_seconds FLOAT, is_blocked BOOLEAN DEFAULT 0 NOT NULL,
	PRIMARY KEY (id),
	FOREIGN KEY(source_id) REFERENCES sources (id),
	CONSTRAINT uq_subscriptions_source_id_name UNIQUE (source_id, name)
);
INSERT INTO "subscriptions" VALUES(1,1,'crm',NULL,NULL,NULL,'2026-11-23 12:00:00.000000',NULL,'2026-11-23 12:00:00.000000',NULL,NULL,NULL,NULL,NULL,0);
INSERT INTO "subscriptions" VALUES(2,1,'dwh',NULL,NULL,NULL,'2026-11-23 12:00:00.000000',NULL,'2026-11-23 12:00:00.000000',NULL,NULL,NULL,NULL,NULL,0);
CREATE INDEX ix_manifests_day ON manifests (source_id, day);
CREATE INDEX ix_deliveries_owed ON deliveries (subscription_id, day, first_key) WHERE state = 'owed';
CREATE INDEX ix_files_manifest_id ON files (manifest_id);
CREATE INDEX ix_manifests_read_at ON manifests (source_id, read_at);
CREATE INDEX ix_manifests_not_folded ON manifests (source_id, day) WHERE folded_at IS NULL;
CREATE INDEX ix_manifests_unreadable ON manifests (source_id) WHERE read_attempts > 0;
CREATE INDEX ix_deliveries_last_run_id ON deliveries (last_run_id);
CREATE INDEX ix_folded_day ON folded (source_id, day, first_key);
CREATE INDEX ix_manifests_troubled ON manifests (source_id) WHERE last_error IS NOT NULL OR reading_run_id IS NOT NULL;
CREATE INDEX ix_manifests_part_of ON manifests (part_of) WHERE part_of IS NOT NULL;
CREATE INDEX ix_backfill_days_unsettled ON backfill_days (source_url, day) WHERE settled_at IS NULL;
CREATE INDEX ix_quarantined_day ON quarantined (source_id, day);
CREATE INDEX ix_quarantined_key ON quarantined (source_id, "key");
CREATE INDEX ix_quarantined_manifest_id ON quarantined (manifest_id);
COMMIT;
