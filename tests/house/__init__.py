"""The house: its structure, its settings and its commands."""
