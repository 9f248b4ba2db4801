"""Totals, rollups, verification and repair of the ledger."""
