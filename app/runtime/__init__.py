"""Time limits, and the division of a worker's connections and processor time."""
