"""How a worker divides its time and connections."""
