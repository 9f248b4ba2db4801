"""Attacks, credentials, limits and tenant isolation."""
