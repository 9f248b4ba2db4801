"""Checks of the service on any database."""
