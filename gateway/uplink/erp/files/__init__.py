"""Orders and confirmations as files: CSV or B2MML, through folders that an ERP shares with the gateway."""
