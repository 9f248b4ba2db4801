"""Column-wise execution of GraphQL queries."""
