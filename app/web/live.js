import { createClient } from "graphql-sse";
import "./live.css";

const config = JSON.parse(document.getElementById("config").textContent);
const headers = { Authorization: config.authorization };
const client = createClient({ url: config.endpoint, headers, retryAttempts: 0 });

const DAYS = 60;
const SHOWN_CHANGES = 10;
const FIRST_DELAY = 500;
const LONGEST_DELAY = 15_000;
const WIDTH = 600;
const HEIGHT = 160;
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

const byId = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");
let watched;
let events;

function element(name, text, attributes = {}) {
  const created = document.createElement(name);
  created.textContent = text;
  for (const [key, value] of Object.entries(attributes)) created.setAttribute(key, value);
  return created;
}

function say(text) {
  byId("state").textContent = text;
}

function isoDate(daysAgo) {
  return new Date(Date.now() - daysAgo * 86_400_000).toISOString().slice(0, 10);
}

async function readStock(sku) {
  const response = await fetch(config.endpoint, {
    method: "POST",
    headers: { ...headers, "Content-Type": "application/json" },
    body: JSON.stringify({ query: LIST, variables: { sku, from: isoDate(DAYS), to: isoDate(0) } }),
  });
  const { data, errors } = await response.json();
  if (errors) throw new Error(errors[0].message);
  return { position: data.skus.feedPosition, record: data.skus.nodes[0] };
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

function showChart(values) {
  const most = Math.max(...values, 1);
  const step = WIDTH / Math.max(values.length - 1, 1);
  const y = (value) => HEIGHT - (value / most) * HEIGHT;
  const points = values.map((value, index) => `${(index * step).toFixed(1)},${y(value).toFixed(1)}`);
  byId("line").setAttribute("points", points.join(" "));
  byId("most").textContent = number.format(most);
  byId("chart").setAttribute(
    "aria-label",
    `On hand of the last ${DAYS} days: ${number.format(values[0])} at first, ${number.format(values.at(-1))} now, ${number.format(most)} at most`,
  );
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
      await new Promise((done) => setTimeout(done, delay));
      delay = Math.min(delay * 2, LONGEST_DELAY);
    }
  }
}

byId("choice").addEventListener("submit", (event) => {
  event.preventDefault();
  watch(byId("sku").value.trim());
});
watch(byId("sku").value);
