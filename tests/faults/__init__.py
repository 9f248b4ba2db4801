"""Faults of databases, drivers and clients, and the behaviour of the service under them."""
