"""Every change reaches every endpoint, in order and at least once."""

import asyncio
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from prometheus_client import REGISTRY
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection
from standardwebhooks import Webhook, WebhookVerificationError

from app.database.tables import tenant
from app.deliveries import worker as delivery
from app.deliveries.worker import WebhookWorker
from app.domain.changes import ChangeType
from app.domain.signatures import SignatureKind
from app.domain.webhooks import MAX_FAILING, RETRY_JITTER, RETRY_SECONDS, Answer, WebhookStatus
from app.ledger.verification import verify_tenant
from app.reads.webhooks import list_attempts
from app.writes import webhook_deliveries
from app.writes.webhook_deliveries import LEASE_SECONDS, claim_message
from app.writes.webhooks import (
    delete_webhook,
    rotate_webhook_secret,
    send_again,
    update_webhook,
)
from tests.clocks import set_clock
from tests.engines import transact
from tests.service import Service
from tests.webhooks.receiver import (
    deliver,
    deliver_all,
    receiving,
    response,
)
from tests.webhooks.stock import OTHER, changes_of, hook, row_of, set_many, set_stock, state_of

START: Final = datetime(2030, 1, 1, tzinfo=UTC)


async def test_every_change_is_delivered_in_order_and_in_the_form_of_rest(service: Service) -> None:
    async with receiving() as receiver:
        created = await hook(service, receiver.url)
        await set_many(service, 220)
        await deliver_all(service.database)

    sent = [change for each in receiver.received for change in each.json["data"]["changes"]]
    assert sent == await changes_of(service)
    sizes = [len(each.positions) for each in receiver.received]
    assert max(sizes) == 100
    assert sum(sizes) > 220
    assert len({each.headers["webhook-id"] for each in receiver.received}) == len(sizes)
    ranges = [each.json["data"] for each in receiver.received]
    assert all(one["read_to"] == two["after"] for one, two in pairwise(ranges))
    assert (await state_of(service, created.record.id)).position == sent[-1]["position"]


async def test_metrics_have_the_age_of_delivered_and_of_failed_changes(service: Service) -> None:
    def observed(outcome: str, suffix: str) -> float:
        name = f"inventory_webhook_delay_seconds_{suffix}"
        return REGISTRY.get_sample_value(name, {"outcome": outcome}) or 0

    answers = iter([response(500), response(200)])
    before = {
        outcome: (observed(outcome, "count"), observed(outcome, "sum"))
        for outcome in ("failed", "delivered")
    }
    async with receiving(lambda _message: next(answers)) as receiver:
        await hook(service, receiver.url)
        await set_clock(service.database, START)
        await set_stock(service, 5)
        await deliver_all(service.database)
        await set_clock(service.database, START + timedelta(minutes=10))
        await deliver_all(service.database)

    ages = {"failed": 0, "delivered": 600}
    for outcome, (count, total) in before.items():
        assert observed(outcome, "count") == count + 1
        assert observed(outcome, "sum") - total == pytest.approx(ages[outcome], abs=10)


async def test_messages_are_verified_by_the_official_library(service: Service) -> None:
    async with receiving() as receiver:
        created = await hook(service, receiver.url)
        await set_stock(service, 5)
        await deliver_all(service.database)

    [message] = receiver.received
    assert created.secret is not None
    content = Webhook(created.secret).verify(message.body, message.headers)
    assert content == message.json
    assert content["type"] == "inventory.changes"
    with pytest.raises(WebhookVerificationError):
        Webhook(created.secret).verify(message.body + b" ", message.headers)
    other_id = {**message.headers, "webhook-id": "msg_other"}
    with pytest.raises(WebhookVerificationError):
        Webhook(created.secret).verify(message.body, other_id)


async def test_messages_are_verified_by_a_public_key(service: Service) -> None:
    async with receiving() as receiver:
        created = await hook(service, receiver.url, signature=SignatureKind.ED25519)
        await set_stock(service, 5)
        await deliver_all(service.database)

    [message] = receiver.received
    assert created.secret is None
    public_key = created.record.public_key or ""
    key = Ed25519PublicKey.from_public_bytes(b64decode(public_key.removeprefix("whpk_")))
    version, signature = message.headers["webhook-signature"].split(",")
    assert version == "v1a"
    signed = f"{message.headers['webhook-id']}.{message.headers['webhook-timestamp']}."
    key.verify(b64decode(signature), signed.encode() + message.body)
    with pytest.raises(InvalidSignature):
        key.verify(b64decode(signature), signed.encode() + message.body + b" ")


async def test_both_secrets_sign_during_the_overlap(service: Service) -> None:
    async with receiving() as receiver:
        created = await hook(service, receiver.url)
        database, id_ = service.database, created.record.id
        rotated = await rotate_webhook_secret(
            database, service.tenant_id, id_, overlap=timedelta(hours=1)
        )
        await set_stock(service, 5)
        await deliver_all(database)
        await set_clock(database, datetime.now(UTC) + timedelta(hours=2))
        await set_stock(service, 6)
        await deliver_all(database)

    during, after = receiver.received
    for signed in (created, rotated):
        assert signed.secret
        Webhook(signed.secret).verify(during.body, during.headers)
    assert len(during.headers["webhook-signature"].split(" ")) == 2
    assert len(after.headers["webhook-signature"].split(" ")) == 1


async def test_filters_choose_the_changes(service: Service) -> None:
    async with receiving() as receiver:
        await hook(
            service,
            receiver.url,
            types=[ChangeType.STOCK_CHANGED],
            warehouse_ids=[OTHER.id],
        )
        await set_stock(service, 1)
        await set_stock(service, 2, where=OTHER.id)
        await set_stock(service, 3)
        await deliver_all(service.database)

    [message] = receiver.received
    [change] = message.json["data"]["changes"]
    assert (change["type"], change["warehouse_id"]) == ("stock_changed", OTHER.id)
    # The rest has been examined, and is not examined again.
    assert message.json["data"]["read_to"] == (await changes_of(service))[-1]["position"]


async def test_changes_without_a_match_are_passed_without_a_message(service: Service) -> None:
    async with receiving() as receiver:
        created = await hook(service, receiver.url, types=[ChangeType.SKU_CREATED])
        await set_stock(service, 1)
        await deliver_all(service.database)

    assert receiver.received == []
    newest = (await changes_of(service))[-1]["position"]
    assert (await state_of(service, created.record.id)).position == newest


async def test_a_failed_message_is_sent_again_with_its_id_and_body(service: Service) -> None:
    database = service.database
    async with receiving(lambda _: response(500, "broken")) as receiver:
        created = await hook(service, receiver.url)
        await set_clock(database, START)
        await set_stock(service, 1)
        await deliver_all(database)
        # Due later, and with a further change that belongs to the next message.
        await set_stock(service, 2)
        await deliver_all(database)
        assert len(receiver.received) == 1
        state = await state_of(service, created.record.id)
        assert (state.failures, state.failing_since, state.last_status) == (1, START, 500)
        receiver.respond = lambda _: response(200)
        await set_clock(database, START + timedelta(seconds=7))
        await deliver_all(database)

    failed, again, following = receiver.received
    assert (failed.body, failed.headers["webhook-id"]) == (again.body, again.headers["webhook-id"])
    assert failed.headers["webhook-timestamp"] != again.headers["webhook-timestamp"]
    assert following.headers["webhook-id"] != failed.headers["webhook-id"]
    assert again.positions + following.positions == [
        change["position"] for change in await changes_of(service)
    ]
    state = await state_of(service, created.record.id)
    assert (state.failures, state.failing_since, state.last_status) == (0, None, 200)


async def test_pauses_follow_the_schedule_until_the_endpoint_is_disabled(service: Service) -> None:
    database = service.database
    now = START
    pauses = []
    async with receiving(lambda _: response(503)) as receiver:
        created = await hook(service, receiver.url)
        await set_clock(database, now)
        await set_stock(service, 1)
        for _ in range(2 * len(RETRY_SECONDS)):
            await deliver_all(database)
            state = await state_of(service, created.record.id)
            if state.status is not WebhookStatus.ACTIVE:
                break
            pauses.append((state.next_attempt_at - now).total_seconds())
            now = state.next_attempt_at
            await set_clock(database, now)
        # A disabled webhook is not tried again.
        await set_clock(database, now + timedelta(days=9))
        await deliver_all(database)

    schedule = [*RETRY_SECONDS, *[RETRY_SECONDS[-1]] * (len(pauses) - len(RETRY_SECONDS))]
    assert all(
        least <= pause <= least * (1 + RETRY_JITTER)
        for least, pause in zip(schedule, pauses, strict=True)
    )
    assert now - START >= MAX_FAILING
    assert len(receiver.received) == len(pauses) + 1
    event = (await changes_of(service))[-1]
    assert event["type"] == "webhook_disabled"
    assert (event["webhook_id"], event["reason"]) == (created.record.id, "endpoint_failing")
    assert state.disabling_reason == "endpoint_failing"


async def test_an_endpoint_that_is_gone_is_disabled_and_the_feed_says_so(service: Service) -> None:
    async with receiving(lambda _: response(410)) as gone, receiving() as other:
        created = await hook(service, gone.url)
        await hook(service, other.url, types=[ChangeType.WEBHOOK_DISABLED])
        await set_stock(service, 1)
        await deliver_all(service.database)

    assert len(gone.received) == 1
    state = await state_of(service, created.record.id)
    assert (state.status, state.disabling_reason) == ("disabled", "endpoint_gone")
    [message] = other.received
    [event] = message.json["data"]["changes"]
    assert event == (await changes_of(service))[-1]
    assert event["before"] == {"is_active": True}
    assert event["after"] == {"is_active": False}
    await verify_tenant(service.database, service.tenant_id)


async def test_another_worker_takes_over_after_the_lease_of_a_dead_one(service: Service) -> None:
    database = service.database
    async with receiving() as receiver:
        created = await hook(service, receiver.url)
        await set_clock(database, START)
        await set_stock(service, 1)
        # The worker dies with its claim.
        claimed = await claim_message(database, service.tenant_id, created.record.id)
        assert claimed is not None
        await deliver_all(database)
        assert receiver.received == []
        await set_clock(database, START + timedelta(seconds=LEASE_SECONDS))
        await deliver_all(database)
        # The outcome of the first worker comes too late.
        await webhook_deliveries.finish_attempt(database, claimed, Answer(1, status=410))

    [message] = receiver.received
    assert message.headers["webhook-id"] == claimed.id
    assert message.positions == [record.position for record in claimed.changes]
    assert (await state_of(service, created.record.id)).status is WebhookStatus.ACTIVE


async def test_concurrent_workers_send_each_message_once(service: Service) -> None:
    async with receiving() as receiver:
        for _ in range(8):
            await hook(service, receiver.url)
        await set_stock(service, 1)
        rounds = [deliver(WebhookWorker(service.database)) for _ in range(3)]
        await asyncio.gather(*rounds)

    assert len(receiver.received) == 8


async def test_filters_that_change_during_an_attempt_lose_nothing(service: Service) -> None:
    database, tenant_id = service.database, service.tenant_id
    async with receiving() as receiver:
        created = await hook(service, receiver.url, types=[ChangeType.SKU_CHANGED])
        id_ = created.record.id
        await update_webhook(database, tenant_id, id_, {"types": [ChangeType.STATUS_CHANGED]})
        await set_stock(service, 1)
        message = await claim_message(database, tenant_id, id_)
        assert message is not None
        await update_webhook(database, tenant_id, id_, {"types": None})
        await webhook_deliveries.finish_attempt(database, message, Answer(1, status=200))
        await deliver_all(database)

    assert receiver.positions == [change["position"] for change in await changes_of(service)]
    assert receiver.received[0].headers["webhook-id"] != message.id


async def test_an_answer_of_the_old_url_does_not_disable_the_new_one(service: Service) -> None:
    database, tenant_id = service.database, service.tenant_id
    async with receiving() as receiver:
        created = await hook(service, "http://127.0.0.1:9/")
        await set_stock(service, 1)
        message = await claim_message(database, tenant_id, created.record.id)
        assert message is not None
        await update_webhook(database, tenant_id, created.record.id, {"url": receiver.url})
        gone = Answer(1, status=410)
        await webhook_deliveries.finish_attempt(database, message, gone)
        await deliver_all(database)

    assert len(receiver.received) == 1


async def test_a_paused_webhook_goes_on_where_it_stopped(service: Service) -> None:
    database, tenant_id = service.database, service.tenant_id
    async with receiving() as receiver:
        created = await hook(service, receiver.url)
        await update_webhook(database, tenant_id, created.record.id, {"is_paused": True})
        await set_stock(service, 1)
        await deliver_all(database)
        assert receiver.received == []
        await update_webhook(database, tenant_id, created.record.id, {"is_paused": False})
        await deliver_all(database)

    assert receiver.positions == [change["position"] for change in await changes_of(service)]


async def test_changes_are_sent_again_from_a_position(service: Service) -> None:
    database, tenant_id = service.database, service.tenant_id
    async with receiving() as receiver:
        created = await hook(service, receiver.url)
        await set_stock(service, 1)
        await deliver_all(database)
        await send_again(database, tenant_id, created.record.id, after=0)
        await deliver_all(database)

    first, again = receiver.received
    assert first.json["data"] == again.json["data"]
    assert first.headers["webhook-id"] != again.headers["webhook-id"]


async def test_deleted_changes_disable_a_webhook_that_needs_them(service: Service) -> None:
    async with receiving() as receiver:
        created = await hook(service, receiver.url)
        await set_stock(service, 1)

        async def delete_changes(connection: AsyncConnection) -> None:
            of_tenant = tenant.c.tenant_id == service.tenant_id
            await connection.execute(
                update(tenant).where(of_tenant).values(changes_deleted_until=1)
            )

        await transact(service.database, delete_changes)
        await deliver_all(service.database)

    assert receiver.received == []
    state = await state_of(service, created.record.id)
    assert (state.status, state.disabling_reason) == ("disabled", "changes_gone")


async def test_the_log_keeps_the_newest_attempts(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_deliveries, "KEPT_ATTEMPTS", 3)
    answers = iter([404])
    async with receiving(lambda _: response(next(answers, 200), "hello\0\n" * 99)) as receiver:
        created = await hook(service, receiver.url)
        other = await hook(service, receiver.url, types=[ChangeType.SKU_CREATED])
        await set_clock(service.database, START)
        for number in range(4):
            await set_stock(service, number)
            await set_clock(service.database, START + timedelta(minutes=number))
            await deliver_all(service.database)

    async with service.database.snapshot(tenant_id=service.tenant_id) as snapshot:
        read = [service.tenant_id, created.record.id]
        attempts = await list_attempts(snapshot, *read, limit=9)
        others = await list_attempts(snapshot, service.tenant_id, other.record.id, limit=9)
    assert others == []
    assert len(attempts) == 3
    assert [attempt.status for attempt in attempts] == [200, 200, 200]
    assert [attempt.read_to for attempt in attempts] == sorted(
        (attempt.read_to for attempt in attempts), reverse=True
    )
    assert attempts[0].answer == ("hello  " * 99)[:200]


async def test_endpoints_that_hang_leave_the_places_of_the_others(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One place of fast deliveries: a single endpoint that hangs would take it.
    monkeypatch.setattr(delivery, "MAX_FAST", 1)
    monkeypatch.setattr(delivery, "SLOW_SECONDS", 0.01)
    monkeypatch.setattr(delivery, "LEAST_POLL_SECONDS", 0.001)
    async with (
        receiving(lambda _: None) as hanging,
        receiving() as receiver,
    ):
        for url in (*[hanging.url] * 3, receiver.url, receiver.url):
            await hook(service, url)
        await set_stock(service, 1)
        work = asyncio.create_task(WebhookWorker(service.database).run())
        while len(receiver.received) < 2:
            await asyncio.sleep(0.01)
        assert len(hanging.received) == 3
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def test_a_webhook_that_is_deleted_during_an_attempt_stays_deleted(service: Service) -> None:
    database, tenant_id = service.database, service.tenant_id
    created = await hook(service, "http://127.0.0.1:9/")
    await set_stock(service, 1)
    message = await claim_message(database, tenant_id, created.record.id)
    assert message is not None
    await delete_webhook(database, tenant_id, created.record.id)
    failed = Answer(1, error="refused")
    await webhook_deliveries.finish_attempt(database, message, failed)
    assert await claim_message(database, tenant_id, created.record.id) is None


async def test_a_secret_is_in_no_record(service: Service) -> None:
    created = await hook(service, "http://127.0.0.1:9/")
    row = await row_of(service, created.record.id)
    assert row.secret == created.secret
    assert row.secret not in repr(await state_of(service, created.record.id))
