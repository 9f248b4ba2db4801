"""The guarantees of the ledger, and its verification."""
