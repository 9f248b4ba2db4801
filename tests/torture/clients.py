"""Clients that write under idempotency keys and repeat each request until it is answered."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TextIO

import httpx

from tests.torture.audit import Broken, Entry, entry_key
from tests.torture.operations import Drawer, Json, Operation, Stock

IN_FLIGHT: Final = "IDEMPOTENCY_IN_FLIGHT"
REPEATED: Final = 0.3
# Failures that leave it open whether the request was executed.
NO_ANSWER: Final = (httpx.TransportError, json.JSONDecodeError)


@dataclass
class Log:
    """Acknowledgements: in memory, and in a file outside the service."""

    file: TextIO
    entries: dict[str, Entry] = field(default_factory=dict)
    operations: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def note(self, key: str, code: str | None, entries: dict[str, Entry]) -> None:
        """Store an acknowledgement."""
        self.operations += 1
        self.counts[f"answered {code or 'done'}"] += 1
        self.entries |= entries
        self.file.write(f"{json.dumps([key, code, {k: str(v) for k, v in entries.items()}])}\n")


class Client:
    """Sends operations, perhaps several times, until each has its response."""

    def __init__(self, name: str, seed: str, http: httpx.AsyncClient, log: Log) -> None:
        self.name = name
        self.dice = random.Random(f"{seed} {name}")
        self.http = http
        self.log = log
        self._drawer = Drawer(self.dice)
        self._number = 0

    async def write(self, stock: Stock) -> None:
        """Send one operation, and compare all responses to it."""
        self._number += 1
        operation = self._drawer.draw(stock, f"{self.name}.{self._number}")
        copies = self.dice.choice((2, 3)) if self.dice.random() < REPEATED else 1
        self.log.counts["sent again on purpose"] += copies - 1
        if operation.path != "/graphql":
            self.log.counts["sent again by REST"] += copies - 1
        if self.dice.random() < 0.5:
            answers = await asyncio.gather(*(self._answer(operation) for _ in range(copies)))
        else:
            answers = [await self._answer(operation) for _ in range(copies)]
        for answer in answers[1:]:
            if answer != answers[0]:
                message = f"unequal: {operation.key} was answered {answers[0]} and {answer}"
                raise Broken(message)
        code, entries = _acknowledged(operation, answers[0])
        for entry in entries.values():
            self._drawer.learn(entry)
        if code is None:
            self._drawer.held.extend(_opened_reservations(answers[0]))
        self.log.note(operation.key, code, entries)

    async def _answer(self, operation: Operation) -> Json:
        """Send an operation until its outcome is known."""
        while True:
            try:
                response = await self.http.request(
                    operation.method,
                    operation.path,
                    json=operation.body,
                    headers=operation.headers,
                )
                answer: Json = response.json()
            except NO_ANSWER as error:
                self.log.counts[f"tried again after {type(error).__name__}"] += 1
            else:
                facts = _facts(answer)
                code = facts.get("code") if facts else None
                if code not in (IN_FLIGHT, "UNAVAILABLE"):
                    if response.headers.get("Idempotent-Replayed"):
                        self.log.counts["replayed"] += 1
                    if code == "INTERNAL" or response.status_code >= 500:
                        message = f"failed: {operation.key} was answered {answer}"
                        raise Broken(message)
                    for changing in ("request_id", "replayed"):
                        if facts:
                            facts.pop(changing, None)
                    return answer
                self.log.counts[f"tried again after {code}"] += 1
            await asyncio.sleep(self.dice.uniform(0.01, 0.3))


def _facts(answer: Json) -> Json | None:
    """Facts of an error; None on success."""
    if "error" in answer:
        refused: Json = answer["error"]
        return refused
    if answer.get("errors"):
        extensions: Json = answer["errors"][0]["extensions"]
        return extensions
    return None


def _acknowledged(operation: Operation, answer: Json) -> tuple[str | None, dict[str, Entry]]:
    """Code of a refusal, and the ledger entries of a response, by `entry_key`."""
    if facts := _facts(answer):
        return facts["code"], {}
    if not operation.updates:
        return None, dict(_entries_in(answer["data"]))
    results = answer["data"] if isinstance(answer["data"], list) else [answer["data"]]
    entries: dict[str, Entry] = {}
    for update, result in zip(operation.updates, results, strict=True):
        if result.get("status") != "failed":
            entry = Entry(
                update["sku"],
                update["warehouseId"],
                result.get("after_quantity", update.get("quantity")),
                result.get("before_quantity"),
                result.get("adjustment_id", result.get("id")),
            )
            entries[entry_key(update["note"], entry)] = entry
    return None, entries


def _entries_in(value: Any) -> Iterator[tuple[str, Entry]]:
    """Find the adjustments in a response of either face."""
    if isinstance(value, list):
        for item in value:
            yield from _entries_in(item)
    elif isinstance(value, dict) and "beforeQuantity" in value:
        sku, warehouse = value["sku"]["sku"], value["warehouse"]["id"]
        entry = Entry(sku, warehouse, value["afterQuantity"], value["beforeQuantity"], value["id"])
        yield entry_key(value["note"], entry), entry
    elif isinstance(value, dict) and "before_quantity" in value:
        figures = (value["after_quantity"], value["before_quantity"], value["id"])
        entry = Entry(value["sku"], value["warehouse_id"], *figures)
        yield entry_key(value.get("note"), entry), entry
    elif isinstance(value, dict):
        for item in value.values():
            yield from _entries_in(item)


def _opened_reservations(answer: Json) -> Iterator[str]:
    """Ids of the reservation that a response opened."""
    data = answer["data"]
    if isinstance(data, list):
        return
    if "reserveStock" in data:
        data = data["reserveStock"]["reservation"]
    elif "commitReservation" in data:
        data = data["commitReservation"]["successor"]
    elif data.get("status") != "open":
        return
    if data:
        yield data["id"]
