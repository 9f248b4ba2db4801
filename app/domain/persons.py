"""Persons: the authors of adjustments and reservations.

The ledger names an author by an id that is a hash of the e-mail address and a random salt. The hash
chain covers the id, so it also proves the author of an adjustment. An erased person has neither an
address nor a salt: the chain still holds, and the id does not reveal the address.
"""

from dataclasses import dataclass
from hashlib import sha256
from secrets import token_hex
from typing import Final

import orjson

# The longest address of RFC 5321; in bytes, because an index of PostgreSQL holds it.
MAX_EMAIL_BYTES: Final = 254
# The address that answers show for an erased person.
ERASED: Final = "erased"


@dataclass(frozen=True, slots=True)
class Person:
    """A person whose e-mail address is known."""

    id: str
    email: str
    salt: str


def new_person(email: str) -> Person:
    """Return a person with a new salt."""
    salt = token_hex(16)
    return Person(person_id(email, salt), email, salt)


def person_id(email: str, salt: str) -> str:
    """Compute the id of a person: 128 bits of a SHA-256 over the JSON array of salt and address."""
    return f"per_{sha256(orjson.dumps((salt, email))).hexdigest()[:32]}"


def email_problem(email: str) -> str | None:
    """Describe the fault of a normalized address, if any."""
    if email.isprintable() and 0 < len(email.encode()) <= MAX_EMAIL_BYTES:
        return None
    return f"must have printed characters, and at most {MAX_EMAIL_BYTES} bytes of them"


def normalized_email(text: str) -> str:
    """Return an address in lower case, the form in which addresses are stored and compared.

    A text with `@` counts as an address. Any other is the name of an account, whose case counts.
    """
    return text.lower() if "@" in text else text
