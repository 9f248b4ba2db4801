"""Every SELECT that answers a client."""
