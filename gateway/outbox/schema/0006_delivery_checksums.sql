-- CRC-32 as in 0004: a bit turned in one of these would retire rows that nobody has, or book what was not made. NULL for rows of earlier versions.
ALTER TABLE cursors ADD COLUMN crc INTEGER;
ALTER TABLE consumer_marks ADD COLUMN crc INTEGER;
ALTER TABLE erp_accounts ADD COLUMN crc INTEGER;
