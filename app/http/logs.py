"""Logs on standard error, with the id of the request.

Each entry is a JSON object on a line; on a terminal it is a line for people.
"""

import logging
import os
import sys

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from app.runtime.request_id import current_request_id, current_trace_id


def configure_logs(level: str) -> None:
    """Send the logs of the service and of its libraries to standard error."""
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_request_id,
    ]
    renderers = _renderers()
    structlog.configure(
        processors=[
            *shared,
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *renderers,
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    # HttpEdge logs each request, so the access log of uvicorn is off.
    for name in ("uvicorn", "uvicorn.access", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], name != "uvicorn.access"
        logger.setLevel(level.upper())


def _renderers() -> list[Processor]:
    if sys.stderr.isatty():
        # Without the option, tracebacks have the values of all variables.
        plain = structlog.dev.plain_traceback
        colors = not os.environ.get("NO_COLOR")
        return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def _add_request_id(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if request_id := current_request_id.get():
        event["request_id"] = request_id
    if trace_id := current_trace_id.get():
        event["trace_id"] = trace_id
    return event
