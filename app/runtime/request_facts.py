"""Facts of the current request for its log entry and the metrics.

The outermost layer creates them, and inner layers note what they learn.
"""

from contextvars import ContextVar
from dataclasses import dataclass, field

from app.errors import InventoryError


@dataclass(slots=True)
class RequestFacts:
    """The caller, the operation and the errors of a request."""

    tenant_id: str | None = None
    # The id of an API token, or the subject of a JWT.
    token_id: str | None = None
    # The name that the document gives to its operation.
    operation: str | None = None
    # The root field of a GraphQL operation of a client.
    root_field: str | None = None
    # Whether the response is a stream of events, whose duration is that of its client's interest.
    is_event_stream: bool = False
    # The position of the feed that a read requires, if it may be late.
    read_position: int | None = None
    # The position of the feed after the writes of the request.
    written_position: int | None = None
    # The first error of each code.
    errors: dict[str, InventoryError] = field(default_factory=dict)

    def note_error(self, error: InventoryError) -> None:
        """Note an error of the response."""
        self.errors.setdefault(error.code, error)


current_request_facts: ContextVar[RequestFacts | None] = ContextVar("request_facts", default=None)
