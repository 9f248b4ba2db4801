"""Writes the head of a response together with the first part of its body."""

from asyncio import Transport

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class ResponseWriter:
    """The transport of one response. It keeps the head back until the first part of the body.

    uvicorn writes the two one after the other. Each write is a system call, and the first one wakes
    the client before its response is complete.
    """

    __slots__ = ("_cycle", "_head", "_transport")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._transport: Transport = cycle.transport
        self._head: bytes | None = None

    def write(self, data: bytes) -> None:
        """Write a part of the response, or keep the head back."""
        if not self._cycle.response_started:
            # An interim response.
            self._transport.write(data)
        elif self._head is None:
            self._head = data
        elif self._head:
            parts, self._head = [self._head, data], b""
            self._transport.writelines(parts)
        else:
            self._transport.write(data)

    def flush(self) -> None:
        """Write the head if no part of the body followed it, as in a response to HEAD."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        """Close the connection after the response."""
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether the connection is closing or closed."""
        return self._transport.is_closing()
