"""The command `inventory`."""
