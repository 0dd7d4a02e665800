-- Times are whole microseconds since 1970-01-01 UTC.

-- One row per database file that ever wrote into this journal: the row at position base + n has sequence n of that epoch.
CREATE TABLE epochs (
    epoch TEXT PRIMARY KEY,
    base  INTEGER NOT NULL,
    since INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The log. body is the complete CloudEvent, stored once and sent as it is. total_bytes is the running sum of the bodies' lengths, so that a
-- backlog is a difference of two rows, however long the journal is.
CREATE TABLE journal (
    position     INTEGER PRIMARY KEY AUTOINCREMENT,
    epoch        TEXT    NOT NULL,
    sequence     INTEGER NOT NULL,
    id           TEXT    NOT NULL,
    work_unit    TEXT,
    type         TEXT    NOT NULL,
    job_order_id TEXT,
    at           INTEGER NOT NULL,
    recorded_at  INTEGER NOT NULL,
    total_bytes  INTEGER NOT NULL,
    body         BLOB    NOT NULL
) STRICT;

-- All rows up to and including position are done for that uplink, but for its exceptions.
CREATE TABLE cursors (
    uplink   TEXT PRIMARY KEY,
    position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Rows that an uplink treats apart, whatever its cursor says: parked (refused for good), quarantined (to be tried again) and what else it keeps.
CREATE TABLE exceptions (
    uplink   TEXT    NOT NULL,
    position INTEGER NOT NULL,
    state    TEXT    NOT NULL,
    reason   TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (uplink, position)
) STRICT, WITHOUT ROWID;

-- High-water marks: all up to sequence are the consumer's.
CREATE TABLE consumer_marks (
    uplink   TEXT    NOT NULL,
    consumer TEXT    NOT NULL,
    epoch    TEXT    NOT NULL,
    sequence INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (uplink, consumer, epoch)
) STRICT, WITHOUT ROWID;

CREATE TABLE snapshots (
    work_unit TEXT PRIMARY KEY,
    version   INTEGER NOT NULL,
    state     BLOB    NOT NULL
) STRICT, WITHOUT ROWID;

-- What a work unit remembers row by row: windows, stops, jobs, intervals.
CREATE TABLE records (
    work_unit TEXT    NOT NULL,
    kind      TEXT    NOT NULL,
    key       TEXT    NOT NULL,
    at        INTEGER NOT NULL,
    body      BLOB    NOT NULL,
    PRIMARY KEY (work_unit, kind, key)
) STRICT;
CREATE INDEX records_by_time ON records (work_unit, kind, at);
CREATE INDEX records_by_age ON records (at);

-- A command_id that was answered once gets the same answer again.
CREATE TABLE answers (
    command_id    TEXT PRIMARY KEY,
    return_status INTEGER NOT NULL,
    state         TEXT,
    problem_code  TEXT,
    problem_text  TEXT,
    at            INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX answers_by_age ON answers (at);

-- How far the orders of an uplink have been taken.
CREATE TABLE order_cursors (
    uplink TEXT PRIMARY KEY,
    cursor TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE telemetry (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    device TEXT NOT NULL,
    body   BLOB NOT NULL
) STRICT;
