"""The published REST API: a table of routes over named GraphQL operations."""
