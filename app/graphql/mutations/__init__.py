"""The writes, by what they are about; `app.graphql.mutation` is their root."""
