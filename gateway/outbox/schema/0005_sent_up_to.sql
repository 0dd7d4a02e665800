-- Up to where an uplink with consumers has handed every row to its peer: an acknowledgement beyond it is of a row that nobody has seen.
CREATE TABLE sent (
    uplink   TEXT PRIMARY KEY,
    position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Earlier versions did not say how far they were: any row may have gone out.
INSERT INTO sent SELECT uplink, coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'journal'), 0) FROM cursors;
