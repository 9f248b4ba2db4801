"""Clients that write under idempotency keys and repeat each request until it is answered."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TextIO

import httpx

from tests.graphql.operations import bulk_item
from tests.torture.audit import Broken, Entry

Json = dict[str, Any]

SET: Final = """
mutation ($input: SetStockInput!) {
  setStock(input: $input) {
    adjustment { id sku { sku } warehouse { id } beforeQuantity afterQuantity note }
  }
}
"""
ADJUST: Final = SET.replace("SetStockInput", "AdjustStockInput").replace("setStock", "adjustStock")
BULK: Final = """
mutation ($input: BulkSetStockInput!) {
  bulkSetStock(input: $input) {
    results {
      status
      adjustment { id sku { sku } warehouse { id } beforeQuantity afterQuantity note }
      error { code }
    }
  }
}
"""
RESERVE: Final = """
mutation ($input: ReserveStockInput!) {
  reserveStock(input: $input) { reservation { id } }
}
"""
COMMIT: Final = """
mutation ($input: CommitReservationInput!) {
  commitReservation(input: $input) {
    reservation { id }
    adjustments { id sku { sku } warehouse { id } beforeQuantity afterQuantity note }
  }
}
"""
RELEASE: Final = """
mutation ($input: ReleaseReservationInput!) {
  releaseReservation(input: $input) { reservation { id } }
}
"""
IN_FLIGHT: Final = "IDEMPOTENCY_IN_FLIGHT"
REPEATED: Final = 0.3
MAX_BULK: Final = 12
# Failures that leave it open whether the request was executed.
NO_ANSWER: Final = (httpx.TransportError, json.JSONDecodeError)


@dataclass(frozen=True, slots=True)
class Stock:
    """The warehouses and SKUs that the clients write to."""

    token: str
    skus: Sequence[str]
    warehouses: Sequence[str]
    readonly: str


@dataclass(frozen=True, slots=True)
class Operation:
    """A write, as each attempt sends it."""

    key: str
    method: str
    path: str
    body: Json
    headers: dict[str, str]
    updates: Sequence[Json]
    # Whether it creates, commits, releases or extends a reservation.
    is_about_reservation: bool = False
    is_reserving: bool = False


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
        self._seen: dict[tuple[str, str], int] = {}
        # Open reservations of this client.
        self._held: list[str] = []
        self._number = 0

    async def write(self, stock: Stock) -> None:
        """Send one operation, and compare all responses to it."""
        self._number += 1
        operation = self._operation(stock, f"{self.name}.{self._number}")
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
            self._seen[entry.sku, entry.warehouse_id] = entry.after
        if operation.is_reserving and code is None:
            self._held.append(_reservation(answers[0])["id"])
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

    def _operation(self, stock: Stock, key: str) -> Operation:
        if self.dice.random() < 0.25:
            return self._about_reservation(stock, key)
        is_rest, is_bulk = self.dice.random() < 0.5, self.dice.random() < 0.4
        levels = list(self._levels(stock, self.dice.randint(2, MAX_BULK) if is_bulk else 1))
        updates = [
            {
                "sku": sku,
                "warehouseId": warehouse,
                **self._change(),
                "reason": "cycle_count",
                "note": f"{key}/{index}",
            }
            for index, (sku, warehouse) in enumerate(levels)
        ]
        for update, level in zip(updates, levels, strict=True):
            if self.dice.random() < 0.2:
                update["expectedQuantity"] = self._seen.get(level, 0)
        on_error = self.dice.choice(("abort", "continue"))
        headers = {"Authorization": f"Bearer {stock.token}"}
        if is_rest:
            headers["Idempotency-Key"] = key
            items = [_in_rest_names(update) for update in updates]
            if is_bulk:
                body: Json = {"updates": items, "on_error": on_error}
                return Operation(key, "POST", "/api/inventory/bulk", body, headers, updates)
            path = f"/api/inventory/{items[0].pop('sku')}"
            if self.dice.random() < 0.1:
                headers["If-Match"] = f'"{self.dice.randint(1, 20)}"'
            if "delta" in items[0]:
                return Operation(key, "POST", f"{path}/adjustments", items[0], headers, updates)
            return Operation(key, "PUT", path, items[0], headers, updates)
        content: Json = {"idempotencyKey": key}
        if is_bulk:
            items = [bulk_item(update) for update in updates]
            content |= {"updates": items, "onError": on_error.upper()}
        else:
            content |= updates[0]
        single = ADJUST if "delta" in content else SET
        body = {"query": BULK if is_bulk else single, "variables": {"input": content}}
        return Operation(key, "POST", "/graphql", body, headers, updates)

    def _about_reservation(self, stock: Stock, key: str) -> Operation:
        """Reserve, or end a reservation of this client, which may have expired."""
        content: Json
        if not self._held or self.dice.random() < 0.5:
            [(sku, warehouse)] = self._levels(stock, 1)
            line = {"sku": sku, "warehouseId": warehouse, "quantity": self.dice.randint(1, 30)}
            seconds = self.dice.choice((1, 2, 600))
            path, query, is_reserving = "", RESERVE, True
            content = {"lines": [line], "expiresIn": seconds}
            body: Json = {"lines": [_in_rest_names(line)], "expires_in": seconds}
        else:
            id_ = self._held.pop(self.dice.randrange(len(self._held)))
            is_commit, is_reserving = self.dice.random() < 0.7, False
            path, query = (f"/{id_}/commit", COMMIT) if is_commit else (f"/{id_}/release", RELEASE)
            body = {"note": f"{key}/0"} if is_commit else {}
            content = {"id": id_, **body}
        headers = {"Authorization": f"Bearer {stock.token}"}
        if self.dice.random() < 0.5:
            headers["Idempotency-Key"] = key
            path = f"/api/inventory/reservations{path}"
        else:
            path = "/graphql"
            body = {"query": query, "variables": {"input": {**content, "idempotencyKey": key}}}
        kind = {"is_about_reservation": True, "is_reserving": is_reserving}
        return Operation(key, "POST", path, body, headers, [], **kind)

    def _change(self) -> Json:
        """Draw a quantity or a delta; some of them lead below zero."""
        if self.dice.random() < 0.3:
            return {"delta": self.dice.randint(-30, 30)}
        return {"quantity": self.dice.choice((-1, 0, *range(1, 60)))}

    def _levels(self, stock: Stock, number: int) -> Iterator[tuple[str, str]]:
        """Draw stock levels, each once; a few of them cannot be set."""
        drawn: set[tuple[str, str]] = set()
        while len(drawn) < number:
            sku = "NOPE" if self.dice.random() < 0.01 else self.dice.choice(stock.skus)
            is_readonly = self.dice.random() < 0.01
            level = sku, stock.readonly if is_readonly else self.dice.choice(stock.warehouses)
            if level not in drawn:
                drawn.add(level)
                yield level


def _in_rest_names(update: Json) -> Json:
    names = {"warehouseId": "warehouse_id", "expectedQuantity": "expected_quantity"}
    return {names.get(name, name): value for name, value in update.items()}


def _reservation(answer: Json) -> Json:
    """Reservation of a REST or GraphQL response."""
    data: Json = answer["data"]
    result: Json = data["reserveStock"]["reservation"] if "reserveStock" in data else data
    return result


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
    """Code of a refusal, and the ledger entries of a response, by note."""
    if facts := _facts(answer):
        return facts["code"], {}
    if operation.path == "/graphql":
        [payload] = answer["data"].values()
        if operation.is_about_reservation:
            made = payload.get("adjustments", [])
        else:
            results = payload.get("results", [payload])
            made = [result["adjustment"] for result in results if result["adjustment"]]
        return None, {
            it["note"]: Entry(
                it["sku"]["sku"],
                it["warehouse"]["id"],
                it["afterQuantity"],
                it["beforeQuantity"],
                it["id"],
            )
            for it in made
        }
    entries: dict[str, Entry] = {}
    if operation.is_about_reservation:
        return None, {
            it["note"]: Entry(
                it["sku"],
                it["warehouse_id"],
                it["after_quantity"],
                it["before_quantity"],
                it["id"],
            )
            for it in answer["data"].get("adjustments", [])
        }
    results = answer["data"] if isinstance(answer["data"], list) else [answer["data"]]
    for update, result in zip(operation.updates, results, strict=True):
        if result.get("status") != "failed":
            entries[update["note"]] = Entry(
                update["sku"],
                update["warehouseId"],
                result.get("after_quantity", update.get("quantity")),
                result.get("before_quantity"),
                result.get("adjustment_id", result.get("id")),
            )
    return None, entries
