"""Cases that a machine draws, against a real server."""
