"""The published REST API: a table of routes, each of which runs a named GraphQL operation."""
