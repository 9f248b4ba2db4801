"""The GraphQL schema and everything that answers it."""
