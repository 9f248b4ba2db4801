import { createClient } from "graphql-sse";
import {
  FIRST_DELAY,
  LONGEST_DELAY,
  byId,
  config,
  element,
  execute,
  isoDate,
  number,
  pause,
  showChart,
} from "./page.js";

const headers = { Authorization: config.authorization };
const client = createClient({ url: config.endpoint, headers, retryAttempts: 0 });

const DAYS = 60;
const SHOWN_CHANGES = 10;
// The list and its position come from one state of the database.
const LIST = `query Live($sku: String!, $from: DateOrDateTime!, $to: DateOrDateTime!) {
  skus(filter: {sku: $sku}) {
    feedPosition
    nodes {
      sku
      title
      stock { onHand reserved available warehouse { id name } }
      stockHistory(from: $from, to: $to, interval: DAY) { start closing }
    }
  }
}`;
const STREAM = `subscription Live($sku: String!, $after: Quantity) {
  stockChanged(skus: [$sku], after: $after) {
    position
    createdAt
    warehouseId
    reason
    before { onHand }
    after { onHand reserved available }
  }
}`;

let watched;
let events;

function say(text) {
  byId("state").textContent = text;
}

async function readStock(sku) {
  const variables = { sku, from: isoDate(DAYS), to: isoDate(0) };
  const { skus } = await execute(config.authorization, LIST, variables);
  return { position: skus.feedPosition, record: skus.nodes[0] };
}

function showStock({ sku, title, stock, stockHistory }) {
  byId("title").textContent = `${sku}: ${title}`;
  const total = (name) => stock.reduce((sum, level) => sum + level[name], 0);
  const rows = [
    ...stock.map((level) => [level.warehouse.name, level]),
    ["Total", { onHand: total("onHand"), reserved: total("reserved"), available: total("available") }],
  ];
  byId("levels").replaceChildren(
    ...rows.map(([name, level]) => {
      const row = document.createElement("tr");
      row.append(element("th", name, { scope: "row" }));
      for (const field of ["onHand", "reserved", "available"]) {
        row.append(element("td", number.format(level[field])));
      }
      return row;
    }),
  );
  const past = stockHistory.map((period) => period.closing);
  // The last period ends now.
  showChart([...past.slice(0, -1), total("onHand")]);
}

function showChange(change, names) {
  const before = change.before?.onHand ?? 0;
  const time = new Date(change.createdAt).toLocaleTimeString("en-GB");
  const quantity = `${number.format(before)} → ${number.format(change.after.onHand)} on hand`;
  const cause = change.reason ? `, ${change.reason}` : "";
  byId("changes").prepend(
    element("li", `${time} ${names.get(change.warehouseId) ?? "new warehouse"}: ${quantity}${cause}`),
  );
  while (byId("changes").children.length > SHOWN_CHANGES) byId("changes").lastChild.remove();
}

// Returns when the list must be read again, and throws when the connection breaks.
async function follow(sku, state, isWatched) {
  const names = new Map(state.record.stock.map(({ warehouse }) => [warehouse.id, warehouse.name]));
  say("Live: changes appear as they are written.");
  const variables = { sku, after: state.position };
  events = client.iterate({ query: STREAM, variables });
  for await (const { data, errors } of events) {
    if (!isWatched()) return;
    if (errors) {
      if (errors[0].extensions?.code === "CHANGES_GONE") return;
      throw new Error(errors[0].message);
    }
    const change = data.stockChanged;
    const level = state.record.stock.find(({ warehouse }) => warehouse.id === change.warehouseId);
    if (level === undefined) return;
    Object.assign(level, change.after);
    state.position = change.position;
    showStock(state.record);
    showChange(change, names);
  }
}

async function watch(sku) {
  const own = (watched = Symbol(sku));
  const isWatched = () => watched === own;
  // The stream of the SKU before would stay open until its next event.
  events?.return();
  byId("changes").replaceChildren();
  say("Loading.");
  let delay = FIRST_DELAY;
  let state;
  while (isWatched()) {
    try {
      state ??= await readStock(sku);
      if (!isWatched()) return;
      if (state.record === undefined) {
        say(`There is no SKU ${sku}.`);
        return;
      }
      showStock(state.record);
      delay = FIRST_DELAY;
      await follow(sku, state, isWatched);
      state = undefined;
    } catch (error) {
      if (!isWatched()) return;
      say(`Interrupted, connecting again: ${error.message}`);
      await pause(delay);
      delay = Math.min(delay * 2, LONGEST_DELAY);
    }
  }
}

byId("choice").addEventListener("submit", (event) => {
  event.preventDefault();
  watch(byId("sku").value.trim());
});
watch(byId("sku").value);
