-- By what a row of `records` of kind lot or serial is found: produced lots, material lots, serial numbers, orders. Its body is there, once.
CREATE TABLE lot_names (
    name      TEXT NOT NULL,
    role      TEXT NOT NULL,
    work_unit TEXT NOT NULL,
    kind      TEXT NOT NULL,
    key       TEXT NOT NULL,
    PRIMARY KEY (name, role, work_unit, kind, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX lot_names_by_row ON lot_names (work_unit, kind, key);

-- Genealogy stays for years, the rest of the history for months: each is pruned by an index of its own, which the other does not lengthen.
DROP INDEX records_by_age;
CREATE INDEX records_by_age ON records (at) WHERE kind NOT IN ('lot', 'serial');
CREATE INDEX lots_by_age ON records (at) WHERE kind IN ('lot', 'serial');
