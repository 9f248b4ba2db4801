// PostGraphile on the tables of the service, in production mode, without GraphiQL, watch mode and
// explain. Lists are plain lists, which cost less than connections. No `pgSettings`: with them
// every request would be a transaction of several round trips.
import cluster from "node:cluster";
import { createServer } from "node:http";

process.env.GRAPHILE_ENV = "production";
const { DATABASE_URL, POOL = "10", PORT, WORKERS = "1" } = process.env;

async function serve() {
  const { postgraphile } = await import("postgraphile");
  const { makePgService } = await import("postgraphile/adaptors/pg");
  const { grafserv } = await import("postgraphile/grafserv/node");
  const { PostGraphileAmberPreset } = await import("postgraphile/presets/amber");

  const pgl = postgraphile({
    extends: [PostGraphileAmberPreset],
    pgServices: [
      makePgService({
        connectionString: DATABASE_URL.replace("+asyncpg", ""),
        poolConfig: { max: Number(POOL) },
        schemas: ["public"],
        pubsub: false,
      }),
    ],
    schema: { defaultBehavior: "-connection +list" },
    grafast: { explain: false },
    grafserv: { graphiql: false, watch: false, websockets: false, maxRequestLength: 1_000_000 },
  });
  const server = createServer();
  await pgl.createServ(grafserv).addTo(server);
  server.listen(Number(PORT), "127.0.0.1");
}

if (cluster.isPrimary && Number(WORKERS) > 1) {
  for (let worker = 0; worker < Number(WORKERS); worker += 1) {
    cluster.fork();
  }
} else {
  await serve();
}
