"""Drivers, connections, tables and migrations."""
