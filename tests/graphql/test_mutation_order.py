"""Mutations of one document read the effects of the earlier ones."""

from tests.service import Service, level, sku, warehouse

SET = 'setStock(input: {sku: "A", warehouseId: "%s", quantity: %d, reason: "cycle_count"})'
SELECTION = "{ adjustment { sku { totalOnHand } warehouse { stock { nodes { onHand } } } } }"


async def test_each_mutation_reads_the_stock_after_its_own_write(service: Service) -> None:
    main = warehouse()
    await service.load([main], [sku("A", level(main, 5))])

    data = await service.data(
        f"mutation {{ a: {SET % (main.id, 3)} {SELECTION} b: {SET % (main.id, 8)} {SELECTION} }}"
    )

    assert [data[name]["adjustment"] for name in ("a", "b")] == [
        {
            "sku": {"totalOnHand": quantity},
            "warehouse": {"stock": {"nodes": [{"onHand": quantity}]}},
        }
        for quantity in (3, 8)
    ]
