"""Time limits: a task that exceeds its limit is cancelled.

One timer checks all limits, because a timer per request costs more than the check.
"""

import asyncio
import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Final, NamedTuple, Self

import structlog

from app.errors import Unavailable

log = structlog.get_logger()
SWEEP_SECONDS: Final = 0.05
# The share of a limit that database work cannot use. It leaves time for the error response.
RESPONSE_SHARE: Final = 0.1
UNLIMITED: Final[AbstractContextManager[Any]] = nullcontext()


class OutOfTime(Unavailable):
    """The request exceeded its time limit."""

    cause = "timeout of the request"


class Uncertain(Unavailable):
    """A write ended, by a deadline or a fault, before the result of its commit arrived."""

    def __init__(self, cause: str = "") -> None:
        message = (
            "The result of the commit did not arrive: the write may or may not be done. "
            "Send it again with the same idempotency key to get its result."
        )
        super().__init__(message)
        self.cause = cause


class Limit:
    """A limit on the time of the current task in a block.

    Raises:
        OutOfTime: on leaving the block, if the limit cancelled the task.

    """

    def __init__(self, watch: "Watch", seconds: float, *, ends_at: float = math.inf) -> None:
        self.seconds = seconds
        self.ends_at = ends_at
        self.is_spent = False
        self._watch = watch
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0

    def restart(self) -> None:
        """Start the full time from now."""
        self.ends_at = time.monotonic() + self.seconds

    def suspend(self) -> None:
        """Stop the time until the next restart."""
        self.ends_at = math.inf

    def spend(self) -> None:
        """Cancel the task."""
        self.is_spent = True
        self.suspend()
        if self._task is not None:
            self._task.cancel()

    def __enter__(self) -> Self:
        """Watch the current task."""
        self._task = asyncio.current_task()
        self._cancelling = self._task.cancelling() if self._task else 0
        self._watch.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Convert a cancellation by this limit into an error."""
        self._watch.discard(self)
        task, self._task = self._task, None
        if not self.is_spent or task is None:
            return
        if task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            log.warning("out_of_time", seconds=self.seconds)
            raise out_of_time(self.seconds)


class Watch:
    """The limits of a process; one timer checks them while any exist."""

    def __init__(self) -> None:
        self._limits: set[Limit] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, limit: Limit) -> None:
        """Start to check a limit."""
        self._limits.add(limit)
        if self._timer is None:
            self._set_timer()

    def discard(self, limit: Limit) -> None:
        """Stop to check a limit."""
        self._limits.discard(limit)

    def _set_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        now = time.monotonic()
        for limit in [limit for limit in self._limits if limit.ends_at <= now]:
            limit.spend()
        self._timer = None
        if self._limits:
            self._set_timer()

    def for_database(self) -> AbstractContextManager[Any]:
        """Return the limit of database work for the current request, if it has a limit."""
        return self.until(database_deadline())

    def until(self, deadline: "Deadline") -> AbstractContextManager[Any]:
        """Return the limit of work until a deadline."""
        if deadline.ends_at == math.inf:
            return UNLIMITED
        return Limit(self, deadline.seconds, ends_at=deadline.ends_at)


class Deadline(NamedTuple):
    """The monotonic time at which database work ends, and the time limit of its request."""

    ends_at: float
    seconds: float

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        return self.ends_at <= time.monotonic()


NO_DEADLINE: Final = Deadline(math.inf, math.inf)


def database_deadline() -> Deadline:
    """Return the deadline of database work for the current request."""
    request = current_limit.get()
    if request is None:
        return NO_DEADLINE
    ends_at = min(request.ends_at, time.monotonic() + request.seconds)
    return Deadline(ends_at - RESPONSE_SHARE * request.seconds, request.seconds)


def out_of_time(seconds: float) -> OutOfTime:
    """Create the refusal of a request that exceeded its time limit."""
    return OutOfTime(f"The request took longer than {seconds:g} s and was cancelled; try again.")


@contextmanager
def untimed() -> Iterator[None]:
    """Do not count the time of a block that waits for events of others."""
    limit = current_limit.get()
    if limit is not None:
        limit.suspend()
    try:
        yield
    finally:
        if limit is not None:
            limit.restart()


# The limit of the current request, or of the current step of a background job.
current_limit: ContextVar[Limit | None] = ContextVar("limit", default=None)
