"""Tests by behaviour; every one that touches data runs on SQLite and on PostgreSQL."""
