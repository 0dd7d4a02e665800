-- What the ledger has come to for one job order of an ERP that books totals, and what of it the ERP has confirmed (`uplink/erp/account.py`).
-- Written in the transaction of the cursor that passes the rows it stands for, or before it; a repeated row changes nothing in it.
CREATE TABLE erp_accounts (
    uplink       TEXT NOT NULL,
    job_order_id TEXT NOT NULL,
    body         BLOB NOT NULL,
    PRIMARY KEY (uplink, job_order_id)
) STRICT;
