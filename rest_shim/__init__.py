"""The published REST document, as a table over named GraphQL operations."""
