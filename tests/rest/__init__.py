"""The documented REST face."""
