"""Items that arrive during a batch are the next batch, and every caller gets an answer."""

import asyncio
from collections.abc import Hashable, Sequence
from typing import Any, Final

import pytest

from app.errors import Unavailable
from app.runtime.batches import MAX_BATCH_SIZE, Batches, Pending
from app.runtime.fair_loop import charged_tenant

KEY: Final = "key"


class Lane:
    """A lane whose batches wait until they may go on; the result of an item is the item."""

    def __init__(self) -> None:
        self.batches = Batches()
        self.seen: list[list[Any]] = []
        self.may_go_on = asyncio.Semaphore(0)

    async def run(self, batch: Sequence[Pending]) -> None:
        self.seen.append([pending.item for pending in batch])
        await self.may_go_on.acquire()
        for pending in batch:
            if isinstance(pending.item, BaseException):
                raise pending.item
            pending.succeed(pending.item)

    def submit(self, *items: object, size: int = 1, key: Hashable = KEY) -> list[asyncio.Task[Any]]:
        submit = self.batches.submit
        return [asyncio.create_task(submit(key, item, self.run, size=size)) for item in items]

    async def until(self, batches: int) -> None:
        while len(self.seen) < batches:
            await asyncio.sleep(0)

    def go_on(self, batches: int = 1_000) -> None:
        for _ in range(batches):
            self.may_go_on.release()


async def test_items_that_arrive_during_a_batch_are_the_next_batch_in_their_order() -> None:
    lane = Lane()
    first = lane.submit(0)
    await lane.until(1)
    rest = lane.submit(1, 2, 3)
    lane.go_on()

    assert await asyncio.gather(*first, *rest) == [0, 1, 2, 3]
    assert lane.seen == [[0], [1, 2, 3]]


async def test_a_batch_has_a_maximum_size_unless_a_single_item_is_larger() -> None:
    lane = Lane()
    lane.go_on()
    sizes = [MAX_BATCH_SIZE - 1, 1, 1, MAX_BATCH_SIZE + 1, MAX_BATCH_SIZE, 500, 501, 1]
    tasks = [task for size in sizes for task in lane.submit(size, size=size)]

    assert await asyncio.gather(*tasks) == sizes
    most = MAX_BATCH_SIZE
    assert lane.seen == [[most - 1, 1], [1], [most + 1], [most], [500], [501, 1]]


async def test_a_batch_is_charged_to_the_tenant_of_its_items() -> None:
    lane = Lane()
    charged = []

    async def run(batch: Sequence[Pending]) -> None:
        charged.append(charged_tenant.get())
        await lane.run(batch)

    async def submit(tenant_id: str | None, item: object) -> Any:
        charged_tenant.set(tenant_id)
        return await lane.batches.submit(KEY, item, run)

    # A background job comes first, and its task serves the requests that follow.
    tasks = [asyncio.create_task(submit(None, "job"))]
    await lane.until(1)
    tasks += [asyncio.create_task(submit(it, "write")) for it in (None, "tenant", "tenant")]
    lane.go_on(1)
    await lane.until(2)
    tasks += [asyncio.create_task(submit(None, "job"))]
    lane.go_on()
    await asyncio.gather(*tasks)

    assert charged == [None, "tenant", None]


async def test_keys_do_not_wait_for_each_other() -> None:
    lane = Lane()
    stuck = lane.submit("stuck", key="stuck")
    await lane.until(1)
    other = Lane()
    other.batches = lane.batches
    other.go_on()

    assert await other.submit("other", key="other")[0] == "other"
    assert not stuck[0].done()
    lane.go_on()
    assert await stuck[0] == "stuck"


async def test_an_error_of_a_batch_is_an_error_of_each_caller_and_the_next_batch_runs() -> None:
    lane = Lane()
    tasks = lane.submit(Unavailable("Later."), "with it")
    await lane.until(1)
    after = lane.submit("after")
    lane.go_on()

    errors = await asyncio.gather(*tasks, return_exceptions=True)

    assert [str(error) for error in errors] == ["Later."] * 2
    # Each caller adds its own traceback.
    assert errors[0] is not errors[1]
    assert await after[0] == "after"


async def test_an_item_of_a_cancelled_caller_leaves_the_queue() -> None:
    lane = Lane()
    first = lane.submit("first")
    await lane.until(1)
    waiting = lane.submit("one", "two", "three")
    await asyncio.sleep(0)
    waiting[1].cancel()
    await asyncio.wait([waiting[1]])
    first[0].cancel()
    lane.go_on()

    assert [await task for task in waiting[::2]] == ["one", "three"]
    assert lane.seen == [["first"], ["one", "three"]]


async def test_callers_that_are_cancelled_together_leave_the_queue_without_a_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared = 0
    lane = Lane()
    first = lane.submit("first")
    await lane.until(1)
    waiting = lane.submit(*range(500))
    await asyncio.sleep(0)

    def is_same(self: Pending, other: object) -> bool:
        nonlocal compared
        compared += 1
        return self is other

    monkeypatch.setattr(Pending, "__eq__", is_same)
    # The last one is farthest from the end at which a search begins.
    for task in reversed(waiting):
        task.cancel()
    await asyncio.wait(waiting)
    lane.go_on()
    await asyncio.gather(*first, lane.batches.finish())

    assert lane.seen == [["first"]]
    assert compared <= len(waiting)


async def test_a_queue_of_cancelled_callers_alone_ends() -> None:
    lane = Lane()
    first = lane.submit("first")
    await lane.until(1)
    waiting = lane.submit("one", "two")
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    lane.go_on()
    await asyncio.gather(*first, *waiting, return_exceptions=True)
    await lane.batches.finish()

    assert lane.seen == [["first"]]
    assert not lane.batches._queues
    assert await lane.submit("later")[0] == "later"


@pytest.mark.parametrize("number", [1, 3])
async def test_no_caller_waits_for_a_lane_whose_task_is_cancelled(number: int) -> None:
    lane = Lane()
    under_way = lane.submit(*range(number))
    await lane.until(1)
    waiting = lane.submit(*range(number))
    await asyncio.sleep(0)
    [task] = lane.batches._tasks
    task.cancel()

    outcomes = await asyncio.gather(*under_way, *waiting, return_exceptions=True)

    assert {type(outcome) for outcome in outcomes} == {asyncio.CancelledError}
    lane.go_on()
    assert await lane.submit("later")[0] == "later"


async def test_finishing_waits_for_batches_that_begin_at_its_end() -> None:
    lane = Lane()
    done: list[object] = []

    async def one_after_the_other() -> None:
        done.append(await lane.batches.submit(KEY, "one", lane.run))
        done.append(await lane.batches.submit(KEY, "two", lane.run))

    client = asyncio.create_task(one_after_the_other())
    await lane.until(1)
    lane.go_on()
    await lane.batches.finish()

    assert done == ["one", "two"]
    await client


async def test_many_items_leave_nothing_behind() -> None:
    lane = Lane()
    lane.go_on()

    await asyncio.gather(
        *(task for number in range(500) for task in lane.submit(number, key=number % 50))
    )
    await lane.batches.finish()

    assert not lane.batches._queues
    assert not lane.batches._tasks


async def sent_in_turn(lane: Lane, clients: int, each: int) -> None:
    """Let clients submit items, each one when the last one is answered and a while later."""

    async def client(number: int) -> None:
        for item in range(each):
            # As many turns of the loop as other clients take before it.
            for _ in range(number):
                await asyncio.sleep(0)
            await lane.batches.submit(KEY, (number, item), lane.run)

    await asyncio.gather(*(client(number) for number in range(clients)))


async def test_clients_that_were_answered_together_are_together_in_the_next_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.runtime.batches.GATHERING_SHARE", 1e9)
    monkeypatch.setattr("app.runtime.batches.MAX_GATHERING_SECONDS", 1e9)
    lane = Lane()
    first = asyncio.create_task(sent_in_turn(lane, clients=8, each=5))
    await lane.until(1)
    # All clients but the first one wait for the first batch.
    while sum(map(len, lane.batches._queues.values())) < 7:
        await asyncio.sleep(0)
    lane.go_on(5)
    await lane.until(5)

    sizes = [len(batch) for batch in lane.seen]
    assert sizes[0] == 1
    assert all(size >= 7 for size in sizes[1:])
    first.cancel()
    lane.go_on()
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_single_client_never_waits_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.runtime.batches.GATHERING_SHARE", 1e9)
    monkeypatch.setattr("app.runtime.batches.MAX_GATHERING_SECONDS", 1e9)
    lane = Lane()
    lane.go_on()
    async with asyncio.timeout(30):
        await sent_in_turn(lane, clients=1, each=20)

    assert [len(batch) for batch in lane.seen] == [1] * 20


async def test_a_long_batch_does_not_wait_long_for_clients_that_do_not_return(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.runtime.batches.GATHERING_SHARE", 1e9)
    lane = Lane()
    first = lane.submit(0)
    await lane.until(1)
    rest = lane.submit(1, 2, 3)
    lane.go_on()
    await asyncio.gather(*first, *rest)

    async with asyncio.timeout(30):
        assert await lane.submit(4)[0] == 4
    assert lane.seen[2:] == [[4]]
