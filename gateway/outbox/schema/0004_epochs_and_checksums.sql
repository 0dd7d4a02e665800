-- Why an epoch began: new (a new journal), salvaged (from a damaged one), log_lost (the log's end was damaged or missing), restored (a backup).
ALTER TABLE epochs ADD COLUMN origin TEXT NOT NULL DEFAULT 'new';

-- CRC-32 of what `COVERED` in damage.py names, NULL for rows of earlier versions: SQLite does not see a bit that a disk has turned in a row.
ALTER TABLE journal ADD COLUMN crc INTEGER;
ALTER TABLE records ADD COLUMN crc INTEGER;
ALTER TABLE snapshots ADD COLUMN crc INTEGER;
