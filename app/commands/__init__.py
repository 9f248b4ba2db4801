"""Every write of the service, as use cases."""
