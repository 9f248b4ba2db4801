"""An identity provider: its keys, its key server and its JWTs."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from app.auth.tokens import Authenticator
from app.settings import Settings

ISSUER = "https://id.example/"
AUDIENCE = "inventory"
KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
Change = Callable[[dict[str, Any], dict[str, Any]], object]


def jwks(**keys: rsa.RSAPrivateKey) -> dict[str, Any]:
    """JSON Web Key Set of public keys by their ids."""
    result = []
    for id_, key in keys.items():
        public = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        result.append({**public, "kid": id_, "use": "sig", "alg": "RS256"})
    return {"keys": result}


def settings(source: str, **options: Any) -> Settings:
    return Settings(jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_jwks=source, **options)


@dataclass(frozen=True)
class Door:
    """The authenticator of a provider's tokens, and the tenant in their claims."""

    authenticator: Authenticator
    tenant_id: str

    def token(self, change: Change = lambda _claims, _header: None, key: Any = KEY) -> str:
        """Return valid token, or one with one change."""
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "user-7",
            "exp": now + 300,
            "iat": now,
            "tenant": self.tenant_id,
            "scope": "openid inventory:write",
            "email": "seven@example.com",
        }
        header: dict[str, Any] = {"kid": "one", "alg": "RS256", "typ": "JWT"}
        change(claims, header)
        algorithm = header.get("alg")
        return jwt.encode(claims, key, algorithm=algorithm, headers=header)


def hold(path: Path, content: str | bytes) -> None:
    """Write a text to a file."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)


@dataclass
class Provider:
    """Key server of a provider, with the number of its requests."""

    url: str = ""
    keys: Any = None
    status: int = 200
    requests: int = 0
    location: str = ""
    document: bytes | None = None


@contextmanager
def provider_on_http() -> Iterator[Provider]:
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            provider.requests += 1
            self.send_response(provider.status)
            if provider.location:
                self.send_header("Location", provider.location)
            self.end_headers()
            with suppress(ConnectionError):
                document = provider.document
                self.wfile.write(
                    json.dumps(provider.keys).encode() if document is None else document
                )

        def log_message(self, *_arguments: object) -> None:
            """Suppress the log of requests."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        provider.url = f"http://127.0.0.1:{server.server_port}/jwks.json"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield provider
        server.shutdown()
        thread.join()
