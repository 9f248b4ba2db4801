"""Tokens, JWTs and rate limits."""
