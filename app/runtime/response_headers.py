"""Headers of every response to the current request, also of errors."""

from contextvars import ContextVar
from typing import Final

# The fields of draft-ietf-httpapi-ratelimit-headers.
RATE_LIMIT_POLICY_HEADER: Final = "RateLimit-Policy"
RATE_LIMIT_HEADER: Final = "RateLimit"

current_response_headers: ContextVar[tuple[tuple[bytes, bytes], ...]] = ContextVar(
    "response_headers", default=()
)
