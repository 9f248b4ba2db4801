"""The ledger: what it guarantees, and the proof of it."""
