"""HTTP below both faces."""
