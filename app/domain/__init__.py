"""Rules and values of the domain, without I/O."""
