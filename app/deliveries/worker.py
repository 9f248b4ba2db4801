"""The worker that delivers webhooks. Every process has one, and they share the work by leases.

An endpoint that does not answer keeps its delivery open for as long as an attempt may take. Such a
delivery counts as slow after a second. Fast and slow ones have separate bounds, so endpoints that
hang take no place from the others, up to the bound of slow ones.
"""

import asyncio
import random
from collections import Counter
from typing import Final, NoReturn

import structlog

from app.database.due_work import DUE_WEBHOOKS
from app.database.engine import Database
from app.deliveries.endpoints import Endpoints
from app.deliveries.messages import message_body
from app.domain.signatures import signature_headers
from app.errors import Unavailable
from app.reads.due_webhooks import DueWebhook, list_due_webhooks
from app.reads.due_work import list_due_tenants
from app.runtime.metrics import FAILED_JOBS
from app.writes.webhook_deliveries import claim_message, finish_attempt

log = structlog.get_logger()
# The longest pause before the worker looks for due webhooks.
POLL_SECONDS: Final = 1.0
# The shortest one: after a delivery its webhook may be due again.
LEAST_POLL_SECONDS: Final = 0.05
SLOW_SECONDS: Final = 1.0
MAX_FAST: Final = 32
MAX_FAST_OF_TENANT: Final = 16
MAX_SLOW: Final = 256
HEADERS: Final = {"Content-Type": "application/json", "User-Agent": "inventory-api-webhooks"}


class WebhookWorker:
    """Delivers the due webhooks of all tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._endpoints = Endpoints(to_loopback=database.settings.webhooks_to_loopback)
        self._fast: set[DueWebhook] = set()
        self._slow: set[DueWebhook] = set()
        self._fast_of_tenant: Counter[str] = Counter()
        self._freed = asyncio.Event()

    async def run(self) -> NoReturn:
        """Deliver until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    await self.start_due(tasks)
                    await self._pause()
        finally:
            self._endpoints.close()

    async def start_due(self, tasks: asyncio.TaskGroup) -> int:
        """Start the deliveries of due webhooks for which there is a place; return their number."""
        self._freed.clear()
        try:
            due = await self._list_due()
        except Unavailable as error:
            FAILED_JOBS.inc()
            log.warning("job_postponed", message=error.message, cause=error.cause)
            return 0
        except Exception:
            FAILED_JOBS.inc()
            log.exception("job_failed")
            return 0
        for each in due:
            self._fast.add(each)
            self._fast_of_tenant[each.tenant_id] += 1
            tasks.create_task(self._deliver(each))
        return len(due)

    async def _list_due(self) -> list[DueWebhook]:
        """Read due webhooks for which there is a place; some may be under way already."""
        places = MAX_FAST - len(self._fast)
        if places <= 0:
            return []
        async with self._database.snapshot(single=True) as snapshot:
            tenant_ids = await list_due_tenants(snapshot, DUE_WEBHOOKS, due_before=0)
        chosen: list[DueWebhook] = []
        for tenant_id in tenant_ids:
            under_way = {each for each in self._fast | self._slow if each.tenant_id == tenant_id}
            limit = min(MAX_FAST_OF_TENANT - self._fast_of_tenant[tenant_id], places - len(chosen))
            if limit <= 0:
                continue
            async with self._database.snapshot(single=True, tenant_id=tenant_id) as snapshot:
                due = await list_due_webhooks(snapshot, tenant_id, limit=limit + len(under_way))
            chosen += [each for each in due if each not in under_way][:limit]
        return chosen

    async def _deliver(self, due: DueWebhook) -> None:
        timer = asyncio.get_running_loop().call_later(SLOW_SECONDS, self._become_slow, due)
        try:
            await self._attempt(due)
        except Unavailable as error:
            FAILED_JOBS.inc()
            log.warning("job_postponed", message=error.message, cause=error.cause)
        except Exception:
            FAILED_JOBS.inc()
            log.exception("job_failed", tenant=due.tenant_id, webhook=due.webhook_id)
        finally:
            timer.cancel()
            self._free_fast(due)
            self._slow.discard(due)
            self._freed.set()

    async def _attempt(self, due: DueWebhook) -> None:
        message = await claim_message(self._database, due.tenant_id, due.webhook_id)
        if message is None:
            return
        body = message_body(message)
        headers = HEADERS | signature_headers(message.secrets, message.id, message.at, body)
        answer = await self._endpoints.post(message.url, headers, body.encode())
        await finish_attempt(self._database, message, answer)

    def _become_slow(self, due: DueWebhook) -> None:
        if len(self._slow) < MAX_SLOW:
            self._slow.add(due)
            self._free_fast(due)
            self._freed.set()

    def _free_fast(self, due: DueWebhook) -> None:
        if due in self._fast:
            self._fast.remove(due)
            self._fast_of_tenant[due.tenant_id] -= 1
            self._fast_of_tenant += Counter()

    async def _pause(self) -> None:
        """Wait until a place is free, at most for POLL_SECONDS."""
        await asyncio.sleep(LEAST_POLL_SECONDS)
        seconds = POLL_SECONDS * random.uniform(0.5, 1.5)  # noqa: S311 - keeps the workers apart
        try:
            async with asyncio.timeout(seconds):
                await self._freed.wait()
        except TimeoutError:
            return
