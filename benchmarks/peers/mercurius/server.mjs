// Fastify and Mercurius with JIT and batched loaders, on postgres.js with prepared statements.
import cluster from "node:cluster";
import Fastify from "fastify";
import mercurius from "mercurius";
import postgres from "postgres";

const { DATABASE_URL, POOL = "10", PORT, TENANT, WORKERS = "1" } = process.env;

const schema = `
  type Query {
    skus(first: Int!, after: String!): [Sku!]!
    sku(sku: String!): Sku
  }
  type Mutation {
    setStock(update: StockUpdate!): SetStockResult!
    bulkSetStock(updates: [StockUpdate!]!): [BulkSetStockResult!]!
  }
  type Sku {
    sku: String!
    title: String!
    status: String!
    totalOnHand: Float!
    totalReserved: Float!
    totalAvailable: Float!
    safetyStock: Float!
    stock: [StockLevel!]!
  }
  type StockLevel {
    onHand: Float!
    reserved: Float!
    available: Float!
    warehouse: Warehouse!
  }
  type Warehouse {
    id: String!
    name: String!
    type: String!
  }
  input StockUpdate {
    sku: String!
    warehouseId: String!
    quantity: Float!
    reason: String!
  }
  type SetStockResult {
    sku: String!
    status: String!
    onHand: Float!
  }
  type BulkSetStockResult {
    sku: String!
    warehouseId: String!
    before: Float!
    after: Float!
    adjustmentId: String!
  }
`;

function connect() {
  // postgres.js cannot parse URLs without a host name, such as those of socket directories.
  const url = new URL(DATABASE_URL.replace("+asyncpg", "").replace("@/", "@localhost/"));
  return postgres({
    host: url.searchParams.get("host") ?? url.hostname,
    port: Number(url.searchParams.get("port") ?? (url.port || 5432)),
    database: decodeURIComponent(url.pathname.slice(1)),
    username: decodeURIComponent(url.username),
    password: decodeURIComponent(url.password),
    max: Number(POOL),
    prepare: true,
    // A JavaScript number holds every quantity exactly.
    types: { bigint: { to: 20, from: [20], parse: Number, serialize: String } },
  });
}

function resolversOn(sql) {
  const TOTALS = sql`
    LEFT JOIN LATERAL (
      SELECT coalesce(sum(on_hand), 0)::bigint AS "totalOnHand",
        coalesce(sum(reserved), 0)::bigint AS "totalReserved",
        coalesce(sum(on_hand - reserved - safety_stock), 0)::bigint AS "totalAvailable",
        coalesce(sum(safety_stock), 0)::bigint AS "safetyStock"
      FROM stock_level l WHERE l.tenant_id = ${TENANT} AND l.sku = s.sku
    ) totals ON true
  `;
  const statusOf = (sellable, safetyStock) => sql`
    CASE
      WHEN ${sql.unsafe(sellable)} <= 0 THEN 'out_of_stock'
      WHEN ${sql.unsafe(sellable)} <= ${sql.unsafe(safetyStock)} THEN 'critical'
      WHEN ${sql.unsafe(sellable)} <= 2 * ${sql.unsafe(safetyStock)} THEN 'low'
      ELSE 'normal'
    END
  `;

  // Each statement sees the effects of the earlier ones; all are sent to the database at once.
  const write = (updates) =>
    sql.begin(async (sql) => {
      const codes = updates.map((update) => update.sku);
      const places = updates.map((update) => update.warehouseId);
      const quantities = updates.map((update) => update.quantity);
      const reasons = updates.map((update) => update.reason);
      const [, changes, skus] = await Promise.all([
        sql`
          SELECT FROM sku WHERE tenant_id = ${TENANT} AND sku = ANY (${codes}::text[])
          ORDER BY sku FOR NO KEY UPDATE
        `,
        sql`
          WITH moment AS MATERIALIZED (
            SELECT date_trunc('milliseconds', clock_timestamp()) AS at
          ), levels AS (
            UPDATE stock_level new
            SET on_hand = a.quantity,
              status = ${statusOf("(a.quantity - old.reserved)", "old.safety_stock")},
              version = old.version + 1,
              adjusted_at = m.at
            FROM moment m, unnest(
              ${codes}::text[], ${places}::text[], ${quantities}::bigint[], ${reasons}::text[]
            ) WITH ORDINALITY AS a (sku, warehouse_id, quantity, reason, number)
              JOIN stock_level old USING (sku, warehouse_id)
            WHERE old.tenant_id = ${TENANT} AND new.tenant_id = ${TENANT}
              AND new.sku = a.sku AND new.warehouse_id = a.warehouse_id
            RETURNING new.sku, new.warehouse_id, new.version, m.at, old.on_hand AS before,
              new.on_hand AS after, a.reason, a.number,
              'adj_' || lpad(to_hex((extract(epoch FROM m.at) * 1000)::bigint), 12, '0')
                || right(replace(gen_random_uuid()::text, '-', ''), 14) AS id
          ), ledger AS (
            INSERT INTO adjustment (
              tenant_id, id, sku, warehouse_id, sequence, before_quantity, after_quantity, delta,
              reason, created_by, created_at
            )
            SELECT ${TENANT}, l.id, l.sku, l.warehouse_id, l.version, l.before, l.after,
              l.after - l.before, l.reason, 'bench@example.com', l.at
            FROM levels l
          )
          SELECT sku, warehouse_id AS "warehouseId", before, after, id AS "adjustmentId"
          FROM levels ORDER BY number
        `,
        sql`
          UPDATE sku s
          SET (status, updated_at) = (
              SELECT ${statusOf("sum(l.on_hand - l.reserved)", "sum(l.safety_stock)")},
                max(l.adjusted_at)
              FROM stock_level l WHERE l.tenant_id = s.tenant_id AND l.sku = s.sku
            ),
            version = version + 1
          WHERE s.tenant_id = ${TENANT} AND s.sku = ANY (${codes}::text[])
          RETURNING s.sku, s.status
        `,
      ]);
      if (changes.length !== updates.length) {
        throw new Error("one of the stock levels does not exist");
      }
      return { changes, skus };
    });

  const resolvers = {
    Query: {
      skus: (_, { first, after }) => sql`
        SELECT s.sku, s.title, s.status, totals.*
        FROM (
          SELECT sku, title, status FROM sku
          WHERE tenant_id = ${TENANT} AND sku > ${after} ORDER BY sku LIMIT ${first}
        ) s ${TOTALS}
        ORDER BY s.sku
      `,
      sku: async (_, { sku }) => {
        const [found] = await sql`
          SELECT s.sku, s.title, s.status, totals.*
          FROM sku s ${TOTALS}
          WHERE s.tenant_id = ${TENANT} AND s.sku = ${sku}
        `;
        return found;
      },
    },
    Mutation: {
      setStock: async (_, { update }) => {
        const { changes, skus } = await write([update]);
        return { ...skus[0], onHand: changes[0].after };
      },
      bulkSetStock: async (_, { updates }) => (await write(updates)).changes,
    },
  };

  const loaders = {
    Sku: {
      stock: {
        async loader(queries) {
          const bySku = new Map(queries.map(({ obj }) => [obj.sku, []]));
          const levels = await sql`
            SELECT l.sku, l.on_hand AS "onHand", l.reserved,
              l.on_hand - l.reserved - l.safety_stock AS available, w.id, w.name, w.type
            FROM stock_level l
            JOIN warehouse w ON w.tenant_id = l.tenant_id AND w.id = l.warehouse_id
            WHERE l.tenant_id = ${TENANT} AND l.sku = ANY (${[...bySku.keys()]}::text[])
            ORDER BY l.sku, l.warehouse_id
          `;
          for (const { sku, onHand, reserved, available, id, name, type } of levels) {
            bySku.get(sku).push({ onHand, reserved, available, warehouse: { id, name, type } });
          }
          return queries.map(({ obj }) => bySku.get(obj.sku));
        },
        // Caching would serialize each SKU to a key.
        opts: { cache: false },
      },
    },
  };
  return { resolvers, loaders };
}

async function serve() {
  const app = Fastify();
  app.register(mercurius, {
    schema,
    ...resolversOn(connect()),
    jit: 1,
    // The values of the columns have the right types.
    compilerOptions: { disableLeafSerialization: true },
    graphiql: false,
  });
  await app.listen({ host: "127.0.0.1", port: Number(PORT) });
}

if (cluster.isPrimary && Number(WORKERS) > 1) {
  for (let worker = 0; worker < Number(WORKERS); worker += 1) {
    cluster.fork();
  }
} else {
  await serve();
}
