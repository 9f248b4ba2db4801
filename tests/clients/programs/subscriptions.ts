// The subscription of a SKU with Apollo Client, urql and Relay, each over graphql-sse.
import { ApolloClient, ApolloLink, InMemoryCache, gql } from "@apollo/client";
import { Client as UrqlClient, subscriptionExchange } from "@urql/core";
import { print } from "graphql";
import { createClient, type Client } from "graphql-sse";
import { Observable } from "rxjs";

// They have no types.
const { Environment, Network, Observable: RelayObservable, RecordSource, Store, requestSubscription } =
  require("relay-runtime");
const relaySubscription = require("../relay/__generated__/StockListWatchSubscription.graphql");

type Change = { position: number; after: { onHand: number } };
type Variables = { after: number };
type Sink = { next: (change: Change) => void; error: (error: unknown) => void };
type Watch = (connection: Client, variables: Variables, sink: Sink) => () => void;

const [address, token] = process.argv.slice(2);
// The client adds the type of its content itself.
const authorization = { Authorization: `Bearer ${token}` };
const url = `${address}/graphql`;
const QUERY = `
  subscription StockListWatchSubscription($after: Quantity) {
    stockChanged(skus: ["SKU-003"], after: $after) { position after { onHand } }
  }
`;

const watchByApollo: Watch = (connection, variables, sink) => {
  const link = new ApolloLink(
    (operation) =>
      new Observable((observer) =>
        connection.subscribe(
          { query: print(operation.query), variables: operation.variables },
          observer as any,
        ),
      ),
  );
  const client = new ApolloClient({ link, cache: new InMemoryCache() });
  const request = { query: gql(QUERY), variables, fetchPolicy: "no-cache" as const };
  const subscription = client.subscribe<{ stockChanged: Change }>(request).subscribe({
    next: ({ data, error }) => (data ? sink.next(data.stockChanged) : sink.error(error)),
    error: sink.error,
  });
  return () => subscription.unsubscribe();
};

const watchByUrql: Watch = (connection, variables, sink) => {
  const exchange = subscriptionExchange({
    forwardSubscription: ({ query, variables }) => ({
      subscribe: (observer) => ({
        unsubscribe: connection.subscribe({ query: query!, variables }, observer as any),
      }),
    }),
  });
  const client = new UrqlClient({ url, exchanges: [exchange], preferGetMethod: false });
  const subscription = client
    .subscription<{ stockChanged: Change }>(QUERY, variables)
    .subscribe(({ data, error }) => (data ? sink.next(data.stockChanged) : sink.error(error)));
  return () => subscription.unsubscribe();
};

const watchByRelay: Watch = (connection, variables, sink) => {
  const subscribe = ({ text }: { text: string }, variables: Variables) =>
    RelayObservable.create((observer: any) =>
      connection.subscribe({ query: text, variables }, observer),
    );
  const environment = new Environment({
    network: Network.create(subscribe, subscribe),
    store: new Store(new RecordSource()),
  });
  const subscription = requestSubscription(environment, {
    subscription: relaySubscription,
    variables,
    onNext: ({ stockChanged }: { stockChanged: Change }) => sink.next(stockChanged),
    onError: sink.error,
  });
  return () => subscription.dispose();
};

async function run(query: string, variables?: Record<string, unknown>) {
  const headers = { ...authorization, "Content-Type": "application/json" };
  const body = JSON.stringify({ query, variables });
  const response = await fetch(url, { method: "POST", headers, body });
  return (await response.json()).data;
}

async function writer() {
  const { skus } = await run(
    '{ skus(filter: {sku: "SKU-003"}) { feedPosition nodes { stock { warehouse { id } } } } }',
  );
  const warehouseId = skus.nodes[0].stock[0].warehouse.id;
  const set = (quantity: number) =>
    run("mutation ($input: SetStockInput!) { setStock(input: $input) { replayed } }", {
      input: { sku: "SKU-003", warehouseId, quantity, reason: "cycle_count" },
    });
  return { feedPosition: skus.feedPosition as number, set };
}

// Open a stream after a position, wait for some changes, and break the connection.
function changesAfter(watch: Watch, after: number, number: number, once?: () => Promise<unknown>) {
  return new Promise<Change[]>((resolve, reject) => {
    const changes: Change[] = [];
    const connection = createClient({ url, headers: authorization, retryAttempts: 0 });
    const stop = watch(connection, { after }, {
      next(change) {
        changes.push(change);
        if (changes.length === number) {
          stop();
          connection.dispose();
          resolve(changes);
        }
      },
      error: reject,
    });
    once?.().catch(reject);
  });
}

async function main() {
  for (const watch of [watchByApollo, watchByUrql, watchByRelay]) {
    const { feedPosition, set } = await writer();
    const [first] = await changesAfter(watch, feedPosition, 1, () => set(31));
    await set(32);
    await set(33);
    const rest = await changesAfter(watch, first.position, 2);
    const quantities = [first, ...rest].map((change) => change.after.onHand);
    if (String(quantities) !== "31,32,33") throw new Error(`${watch.name}: ${quantities}`);
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
