"""Generated requests against a real server."""
