import { Configuration, InventoryApi, ResponseError } from "./typescript-fetch";

async function main(): Promise<void> {
  const [basePath, accessToken] = process.argv.slice(2);
  const api = new InventoryApi(new Configuration({ basePath, accessToken }));
  const page = await api.listInventory({ limit: 2 });
  const { total } = page.meta;
  if (total !== 1248 || page.data[0].warehouses[0].onHand !== 350) throw new Error("wrong page");
  const update = { sku: "SKU-001", warehouseId: "wh_01HXAAAAAAAAAAAAAAAAAAAAAA", reason: "loss" };
  const bulk = await api.bulkSetStock({
    dryRun: true,
    bulkSetStockBody: { updates: [{ ...update, quantity: 3 }] },
  });
  if (bulk.data[0].status !== "updated") throw new Error("wrong result");
  const refused = await api.getInventory({ sku: "NOPE" }).catch((error) => error);
  if (!(refused instanceof ResponseError) || refused.response.status !== 404) throw refused;
}

void main();
