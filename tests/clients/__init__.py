"""Clients that other tools generate from the descriptions of both APIs."""
