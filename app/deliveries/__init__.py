"""Delivery of webhooks: messages, the connection to an endpoint, and the worker that sends."""
