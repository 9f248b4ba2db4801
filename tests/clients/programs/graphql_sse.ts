// The subscription of a SKU with graphql-sse: resumed after a position, it has the change after it.
import { createClient } from "graphql-sse";

const [address, token] = process.argv.slice(2);
// The client adds the type of its content itself.
const authorization = { Authorization: `Bearer ${token}` };

async function run(query: string, variables?: Record<string, unknown>) {
  const headers = { ...authorization, "Content-Type": "application/json" };
  const body = JSON.stringify({ query, variables });
  const response = await fetch(`${address}/graphql`, { method: "POST", headers, body });
  return (await response.json()).data;
}

async function main() {
  const { skus } = await run('{ skus(filter: {sku: "SKU-003"}) { feedPosition nodes { stock { warehouse { id } } } } }');
  const warehouseId = skus.nodes[0].stock[0].warehouse.id;
  await run("mutation ($input: SetStockInput!) { setStock(input: $input) { replayed } }", {
    input: { sku: "SKU-003", warehouseId, quantity: 33, reason: "cycle_count" },
  });
  const client = createClient({ url: `${address}/graphql`, headers: authorization, retryAttempts: 0 });
  const query =
    'subscription ($after: Quantity) { stockChanged(skus: ["SKU-003"], after: $after) { position after { onHand } } }';
  for await (const { data, errors } of client.iterate({ query, variables: { after: skus.feedPosition } })) {
    const change = (data as any)?.stockChanged;
    if (errors || change.after.onHand !== 33 || change.position <= skus.feedPosition) {
      throw new Error(JSON.stringify({ data, errors }));
    }
    break;
  }
  client.dispose();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
