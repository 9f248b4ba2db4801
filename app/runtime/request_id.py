"""The id of the current request, for every log line."""

from contextvars import ContextVar

current_request_id: ContextVar[str] = ContextVar("request_id", default="")
