"""The id of the current request, and the id of its trace, for every log line."""

from contextvars import ContextVar

current_request_id: ContextVar[str] = ContextVar("request_id", default="")
# The trace id of W3C Trace Context; empty without one.
current_trace_id: ContextVar[str] = ContextVar("trace_id", default="")
