"""The address of the database, in the forms that platforms give DATABASE_URL."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

DRIVERS: Final = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
SESSION_KINDS: Final = ("any", "primary", "standby", "read-write", "read-only", "prefer-standby")
# The parameters of a PostgreSQL address that the driver implements.
DSN_PARAMETERS: Final = (
    *("host", "port", "user", "password", "dbname", "passfile"),
    *("connect_timeout", "target_session_attrs"),
    *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl", "sslnegotiation"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version", "krbsrvname"),
)
HOSTS: Final = re.compile(
    r"(?P<start>[\w+]+://(?:[^/?#]*@)?)(?P<hosts>[^/?#@]*,[^/?#@]*)(?P<end>(?:[/?#].*)?)"
)


# The parameters that the service applies host by host.
HOST_PARAMETERS: Final = ("host", "port", "connect_timeout", "target_session_attrs")
# Seconds to connect to a single host, and to each of several.
CONNECT_SECONDS: Final = 5
HOST_SECONDS: Final = 3


class BadAddress(Exception):
    """DATABASE_URL cannot be used."""


class Host(NamedTuple):
    """A host of an address: a name, an IP address or the directory of a Unix socket.

    Without a name, the driver takes the host from its environment or looks for a socket.
    """

    name: str | None
    port: int | None

    def __str__(self) -> str:
        """Return the name with the port."""
        port = f":{self.port}" if self.port else ""
        return f"{self.name or 'localhost'}{port}"


class Hosts(NamedTuple):
    """The hosts of an address, the required role of a server, and the time to connect to one."""

    hosts: Sequence[Host]
    role: str
    seconds: float


def parse_address(text: str) -> URL:
    """Parse the address of a database. Several hosts become the parameter `host`.

    Raises:
        BadAddress: the address is malformed, or demands something that is not supported.

    """
    scheme, separator, _ = text.partition("://")
    if not separator or scheme not in DRIVERS:
        message = (
            "DATABASE_URL must be the address of a SQLite file or of a PostgreSQL database: "
            "sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/NAME."
        )
        raise BadAddress(message)
    hosts = HOSTS.fullmatch(text)
    try:
        url = make_url(hosts["start"] + hosts["end"] if hosts else text)
    except (ArgumentError, ValueError):
        message = (
            "DATABASE_URL is not a valid address. In a user or a password, the characters "
            "@ : / ? # % must be percent-encoded, for example %40 for @."
        )
        # The error that is left out can contain a part of the password.
        raise BadAddress(message) from None
    if hosts:
        url = url.update_query_dict({"host": hosts["hosts"]})
    url = url.set(drivername=DRIVERS[scheme])
    return _sqlite(url) if url.get_backend_name() == "sqlite" else _postgresql(url)


def dsn_of(url: URL) -> str:
    """Return the address of a PostgreSQL database in the form of libpq, with the password."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def hosts_of(url: URL) -> Hosts:
    """Return the hosts of a PostgreSQL address, in their order.

    Raises:
        BadAddress: the numbers of hosts and ports differ.

    """
    names = str(url.query.get("host") or "")
    ports = str(url.query.get("port") or url.port or "").split(",")
    listed = [_host(part) for part in names.split(",")] if names else [Host(url.host, None)]
    if len(ports) not in (1, len(listed)):
        message = f"DATABASE_URL names {len(listed)} hosts and {len(ports)} ports."
        raise BadAddress(message)
    if len(ports) == 1:
        ports *= len(listed)
    hosts = [
        host if host.port or not port else Host(host.name, int(port))
        for host, port in zip(listed, ports, strict=True)
    ]
    is_several = len(hosts) > 1
    role = str(url.query.get("target_session_attrs") or ("read-write" if is_several else "any"))
    seconds = float(url.query.get("connect_timeout") or 0)  # type: ignore[arg-type]
    return Hosts(hosts, role, seconds or (HOST_SECONDS if is_several else CONNECT_SECONDS))


def without_hosts(url: URL) -> URL:
    """Return an address without its hosts and the parameters of their use."""
    return url.set(host="", port=None).difference_update_query(HOST_PARAMETERS)


def describe_address(url: URL) -> str:
    """Return an address without credentials."""
    if url.get_backend_name() == "sqlite":
        return f"sqlite {Path(str(url.database)).resolve()}"
    # A list of hosts can contain their ports.
    hosts = str(url.query.get("host") or "")
    host = f"[{url.host}]" if ":" in (url.host or "") else url.host
    port = "" if ":" in hosts else f":{url.query.get('port') or url.port or 5432}"
    name = url.database or url.query.get("dbname") or ""
    return f"postgresql {hosts or host or 'localhost'}{port}/{name}"


def _sqlite(url: URL) -> URL:
    if not url.database or url.database == ":memory:":
        message = "DATABASE_URL names no file; write sqlite:///FILE, or sqlite:////FILE from /."
        raise BadAddress(message)
    if url.host or url.query:
        message = "A SQLite address has only a file: sqlite:///FILE, or sqlite:////FILE from /."
        raise BadAddress(message)
    return url


def _postgresql(url: URL) -> URL:
    parameters = {name: _joined(values) for name, values in url.query.items()}
    # The name of the parameter in SQLAlchemy's addresses.
    if "ssl" in parameters:
        parameters.setdefault("sslmode", parameters.pop("ssl"))
    if parameters.get("channel_binding") in ("disable", "prefer"):
        del parameters["channel_binding"]
    if unknown := sorted(parameters.keys() - set(DSN_PARAMETERS)):
        message = (
            f"DATABASE_URL has the parameter {', '.join(unknown)}, which is not supported; remove "
            f"it. Supported are {', '.join(DSN_PARAMETERS)}."
        )
        raise BadAddress(message)
    _require_choice(parameters, "sslmode", SSL_MODES)
    _require_choice(parameters, "target_session_attrs", SESSION_KINDS)
    if not re.fullmatch(r"(\d{1,5}(,\d{1,5})*)?", parameters.get("port", "")):
        message = "DATABASE_URL has a port that is not a number."
        raise BadAddress(message)
    if not re.fullmatch(r"\d{0,4}", parameters.get("connect_timeout", "")):
        message = "DATABASE_URL has a wrong connect_timeout; it must be a number of seconds."
        raise BadAddress(message)
    url = url.set(query=parameters)
    hosts_of(url)
    return url


def _host(text: str) -> Host:
    """Parse NAME, NAME:PORT, [IPv6]:PORT or the directory of a socket."""
    if text.startswith("/"):
        return Host(text, None)
    match = re.fullmatch(r"(?:\[(?P<ipv6>[^\]]*)\]|(?P<name>[^:]*))(?::(?P<port>\d{1,5}))?", text)
    if match is None:
        message = f"DATABASE_URL has the host {text}, which is not HOST or HOST:PORT."
        raise BadAddress(message)
    port = match["port"]
    return Host(match["ipv6"] or match["name"] or None, int(port) if port else None)


def _joined(values: str | Sequence[str]) -> str:
    return values if isinstance(values, str) else ",".join(values)


def _require_choice(parameters: Mapping[str, str], name: str, choices: Sequence[str]) -> None:
    if parameters.get(name, choices[0]) not in choices:
        message = f"DATABASE_URL has a wrong {name}; it must be one of {', '.join(choices)}."
        raise BadAddress(message)
