"""Webhooks: rules of their addresses, of retries, and of the end of an endpoint that fails."""

import ipaddress
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

from app.domain.changes import ChangeRecord, ChangeType
from app.domain.signatures import SignatureKind

# A write of a tenant causes at most so many requests.
MAX_WEBHOOKS: Final = 50
MAX_URL_LENGTH: Final = 2_000
MAX_FILTERED_WAREHOUSES: Final = 200
# The most changes of a message.
MESSAGE_CHANGES: Final = 100
MESSAGE_TYPE: Final = "inventory.changes"
# The seconds from a failed attempt to the next one. After the last one they repeat.
RETRY_SECONDS: Final = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
# The largest random part of a pause, so that retries of many webhooks do not come together.
RETRY_JITTER: Final = 0.2
# An endpoint that has failed for so long is disabled.
MAX_FAILING: Final = timedelta(days=5)
GONE: Final = 410
_PRINTED_ASCII: Final = re.compile(r"[!-\[\]-~]+")
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
# Reserved for protocols; older versions of Python count a part of it as global.
_PROTOCOLS: Final = ipaddress.ip_network("192.0.0.0/24")
_GLOBAL_UNICAST: Final = ipaddress.ip_network("2000::/3")


class WebhookStatus(StrEnum):
    """Whether a webhook is served."""

    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"


class DisablingReason(StrEnum):
    """Why the service disabled a webhook."""

    GONE = "endpoint_gone"
    FAILING = "endpoint_failing"
    CHANGES_GONE = "changes_gone"


class WebhookRecord(Struct, kw_only=True, frozen=True, gc=False):
    """A webhook without its secrets."""

    id: str
    url: str
    # None: all types.
    types: list[ChangeType] | None
    # None: all warehouses, and changes without one.
    warehouse_ids: list[str] | None
    status: WebhookStatus
    disabling_reason: DisablingReason | None
    signature: SignatureKind
    public_key: str | None
    # The end of the secret before the current one.
    previous_secret_until: datetime | None
    created_at: datetime
    # The position of the feed up to which all changes are delivered.
    position: int
    # Failed attempts since the last success, and the time of the first of them.
    failures: int
    failing_since: datetime | None
    next_attempt_at: datetime
    last_attempt_at: datetime | None
    # The HTTP status of the last attempt; None without a response.
    last_status: int | None
    last_error: str | None


class AttemptRecord(Struct, kw_only=True, frozen=True, gc=False):
    """An attempt to deliver a message. Messages have the changes of a range of positions."""

    id: str
    message_id: str
    started_at: datetime
    duration_ms: int
    after_position: int
    read_to: int
    changes: int
    status: int | None
    error: str | None
    # The beginning of the body of the response.
    answer: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """The response of an endpoint, or the fault in place of one."""

    duration_ms: int
    status: int | None = None
    error: str | None = None
    text: str | None = None

    @property
    def is_success(self) -> bool:
        """Whether the endpoint has taken the message."""
        return self.status is not None and 200 <= self.status < 300  # noqa: PLR2004 - of HTTP


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Changes for a webhook, claimed under a lease."""

    tenant_id: str
    webhook_id: str
    lease_id: str
    id: str
    url: str
    # The current one, and the previous one until its end.
    secrets: tuple[str, ...]
    # The time of the attempt, by the clock of the database.
    at: datetime
    after_position: int
    read_to: int
    changes: tuple[ChangeRecord, ...]
    failing_since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """The state of a webhook after an attempt."""

    failures: int = 0
    failing_since: datetime | None = None
    next_attempt_at: datetime
    disabling_reason: DisablingReason | None = None


def retry_after(
    answer: Answer,
    *,
    failures: int,
    failing_since: datetime | None,
    now: datetime,
    random_part: float,
) -> Retry:
    """Decide when a webhook is due again, and whether it is disabled.

    `failures` is the number before the attempt, and `random_part` is in 0 to 1.
    """
    if answer.is_success:
        return Retry(next_attempt_at=now)
    since = failing_since or now
    reason = None
    if answer.status == GONE:
        reason = DisablingReason.GONE
    elif now - since >= MAX_FAILING:
        reason = DisablingReason.FAILING
    pause = RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]
    # To the millisecond, as all stored instants.
    milliseconds = round(1_000 * pause * (1 + RETRY_JITTER * random_part))
    return Retry(
        failures=failures + 1,
        failing_since=since,
        next_attempt_at=now + timedelta(milliseconds=milliseconds),
        disabling_reason=reason,
    )


def url_problem(url: str, *, to_loopback: bool) -> str | None:
    """Describe the fault of the URL of a webhook, if any.

    With `to_loopback`, `http` is valid too. A name is resolved and checked at each delivery.
    """
    if len(url) > MAX_URL_LENGTH or not _PRINTED_ASCII.fullmatch(url):
        return f"must be 1 to {MAX_URL_LENGTH} printed ASCII characters without spaces and \\"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"must be a URL: {error}"
    if parts.scheme not in ({"https", "http"} if to_loopback else {"https"}):
        return "must begin with https://"
    if not parts.hostname or port == 0:
        return "must have a host and a valid port"
    if parts.username is not None or parts.password is not None or parts.fragment:
        return "must have no user, no password and no fragment"
    return _host_problem(parts, to_loopback=to_loopback)


def _host_problem(parts: SplitResult, *, to_loopback: bool) -> str | None:
    host = parts.hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return None
    if permits_address(host, is_encrypted=parts.scheme == "https", to_loopback=to_loopback):
        return None
    return f"must name a public address, and {host} is not one"


def permits_address(address: str, *, is_encrypted: bool, to_loopback: bool) -> bool:
    """Check whether messages may be sent to an address.

    Public addresses need encryption. An address that embeds one of IPv4 counts as that one.
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
    if ip.is_loopback:
        return to_loopback
    if not is_encrypted or not ip.is_global or ip.is_multicast or ip in _PROTOCOLS:
        return False
    # Other ranges are tunnels (6to4 and Teredo) or have no single owner.
    return ip.version == 4 or (ip in _GLOBAL_UNICAST and not _is_tunnel(ip))  # noqa: PLR2004


def _is_tunnel(ip: ipaddress.IPv6Address) -> bool:
    return ip.sixtofour is not None or ip.teredo is not None
