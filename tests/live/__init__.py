"""Live streams of changes, over real connections."""
