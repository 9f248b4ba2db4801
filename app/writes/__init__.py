"""The use cases that change data: read, decide, write."""
