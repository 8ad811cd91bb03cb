-- The tables of version 3, as its releases have made them, for the test of the migration.

CREATE TABLE journal (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT, -- never used twice, so a cursor stays true
    at_ms    INTEGER NOT NULL,                  -- wall clock, ms since 1970
    at       TEXT NOT NULL,                     -- the same in RFC 3339, UTC
    event    TEXT NOT NULL,                     -- 'raise' or 'clear'
    reason   TEXT,                              -- why it was cleared
    alarm_id TEXT NOT NULL,
    kind     TEXT NOT NULL,
    object   TEXT NOT NULL,
    severity TEXT NOT NULL,
    text     TEXT NOT NULL,
    alarm    TEXT NOT NULL                      -- JSON, all of it
);
CREATE INDEX journal_alarm_id ON journal (alarm_id);

CREATE TABLE alarms (                           -- the active ones
    alarm_id     TEXT PRIMARY KEY,
    kind         TEXT NOT NULL,
    object       TEXT NOT NULL,
    severity     TEXT NOT NULL,
    text         TEXT NOT NULL,
    raised_at_ms INTEGER NOT NULL,
    alarm        TEXT NOT NULL                  -- JSON, all of it
) WITHOUT ROWID;

CREATE TABLE objects (                          -- what the rules remember of each object
    system        TEXT NOT NULL,
    if_index      INTEGER NOT NULL,             -- 0 for the system itself
    as_of_mono_ns INTEGER NOT NULL,             -- on the monotonic clock of run.boot_id
    as_of_wall_ms INTEGER NOT NULL,             -- for people; nothing is computed from it
    age_ns        INTEGER NOT NULL,             -- how old `memory` was at as_of
    memory        TEXT NOT NULL,                -- JSON; every time in it is an age
    PRIMARY KEY (system, if_index)
) WITHOUT ROWID;

CREATE TABLE run (                              -- one row: the run that wrote last
    id            INTEGER PRIMARY KEY CHECK (id = 1),
    boot_id       TEXT NOT NULL,
    started       TEXT NOT NULL,                -- RFC 3339, UTC
    alive_mono_ns INTEGER NOT NULL,             -- it listened until then, at least
    alive_wall_ms INTEGER NOT NULL,
    clean         INTEGER NOT NULL,             -- 1 after an orderly stop
    lag_ms        INTEGER NOT NULL              -- how far `objects` may lag behind
);

CREATE VIEW active AS
    SELECT datetime(raised_at_ms / 1000, 'unixepoch') AS raised_at, severity, kind, object, text,
           alarm_id
    FROM alarms ORDER BY raised_at_ms DESC;
CREATE VIEW recent AS
    SELECT seq, at, event, reason, severity, kind, object, text, alarm_id
    FROM journal ORDER BY seq DESC LIMIT 1000;

CREATE TABLE targets (                          -- notification targets
    name  TEXT PRIMARY KEY,
    seq   INTEGER,                              -- the last journal row that it was sent
    spool INTEGER                               -- the last number of the spool that it was sent
) WITHOUT ROWID;

ALTER TABLE run ADD COLUMN                      -- the last number of the spool that the records heed
    heeded INTEGER NOT NULL DEFAULT 0;

CREATE TABLE engine (                           -- our own SNMP engine, under each identity it had
    engine_id TEXT PRIMARY KEY,                 -- snmpEngineID, hexadecimal
    boots     INTEGER NOT NULL,                 -- snmpEngineBoots of its last run
    generated INTEGER NOT NULL,                 -- 1: made by chance; 0: configured
    started   TEXT NOT NULL                     -- when that run began, RFC 3339, UTC
) WITHOUT ROWID;

CREATE TABLE engines (                          -- other engines, that their time may not go back
    engine_id     TEXT PRIMARY KEY,
    boots         INTEGER NOT NULL,
    time          INTEGER NOT NULL,             -- the highest snmpEngineTime of an authentic message
    as_of_mono_ns INTEGER NOT NULL,             -- as in the table objects
    as_of_wall_ms INTEGER NOT NULL,
    age_ns        INTEGER NOT NULL              -- how long ago that message was at as_of
) WITHOUT ROWID;

CREATE VIEW unsent AS
    SELECT name, seq, (SELECT coalesce(max(seq), 0) FROM journal) - seq AS unsent FROM targets;

ALTER TABLE run ADD COLUMN                      -- how often the agent was started (RFC 5847, 3.4)
    starts INTEGER NOT NULL DEFAULT 0;
