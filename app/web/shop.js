import { createClient } from "graphql-sse";
import {
  FIRST_DELAY,
  LONGEST_DELAY,
  Refusal,
  byId,
  config,
  element,
  execute,
  isoDate,
  number,
  pause,
  showChart,
} from "./page.js";
import "./shop.css";

const headers = { Authorization: config.authorization };
const client = createClient({ url: config.endpoint, headers, retryAttempts: 0 });

const DAYS = 365;
// The page itself has the scope inventory:availability.
const LIST = `query Shop($text: String, $after: String) {
  availabilities(first: 20, after: $after, filter: {text: $text}) {
    nodes { sku title isInStock available isLimited }
    pageInfo { hasNextPage endCursor }
  }
}`;
const STREAM = `subscription Shop($skus: [String!]!) {
  availabilityChanged(skus: $skus) {
    sku
    availability { title isInStock available isLimited }
  }
}`;
// These need the token of the staff.
const DETAILS = `query Details($sku: String!, $from: DateOrDateTime!, $to: DateOrDateTime!) {
  sku(sku: $sku) {
    title
    totalOnHand
    stock { warehouse { id } }
    stockHistory(from: $from, to: $to, interval: DAY) { closing }
  }
}`;
const RESERVE = `mutation Reserve($input: ReserveStockInput!) {
  reserveStock(input: $input) { reservation { id expiresAt } }
}`;
const RELEASE = `mutation Release($id: ID!) {
  releaseReservation(input: {id: $id}) { reservation { id } }
}`;

// The list that is shown, and its stream.
let shown;
let events;
let nextPage;
// The authorization of the staff, the selected article, its warehouses and its last reservation.
let staff;
let selected;
let warehouseIds;
let reservationId;
// Kept while a reservation may have been made without its answer: the next attempt makes no second one.
let reservationKey;

const say = (text) => (byId("state").textContent = text);
const tellStaff = (text) => (byId("staff-state").textContent = text);

function stockText(availability) {
  if (!availability?.isInStock) return "Out of stock";
  const available = number.format(availability.available);
  return availability.isLimited ? `${available} or more` : `${available} left`;
}

function showAvailability(row, availability) {
  const [, title, stock] = row.cells;
  if (availability) title.textContent = availability.title;
  stock.textContent = stockText(availability);
  stock.dataset.stock = availability?.isInStock ? "some" : "none";
}

function rowOf(availability) {
  const row = document.createElement("tr");
  row.dataset.sku = availability.sku;
  const head = element("th", "", { scope: "row" });
  head.append(element("button", availability.sku, { type: "button", "aria-pressed": "false" }));
  row.append(head, element("td", ""), element("td", ""));
  showAvailability(row, availability);
  return row;
}

async function showList(text, after) {
  const own = (shown = Symbol(text));
  // The stream of the list before would stay open until its next event.
  events?.return();
  say("Loading.");
  let page;
  try {
    const data = await execute(config.authorization, LIST, { text: text || null, after });
    page = data.availabilities;
  } catch (error) {
    if (shown === own) say(`The list cannot be read: ${error.message}`);
    return;
  }
  if (shown !== own) return;
  const rows = new Map(page.nodes.map((each) => [each.sku, rowOf(each)]));
  byId("articles").replaceChildren(...rows.values());
  byId("first").disabled = after === null;
  byId("next").disabled = !page.pageInfo.hasNextPage;
  nextPage = () => showList(text, page.pageInfo.endCursor);
  markSelected();
  if (rows.size) await follow(rows, () => shown === own);
  else say("No article has these words.");
}

// A stream begins with the present availability, so a new one needs no position.
async function follow(rows, isShown) {
  let delay = FIRST_DELAY;
  while (isShown()) {
    try {
      events = client.iterate({ query: STREAM, variables: { skus: [...rows.keys()] } });
      for await (const { data, errors } of events) {
        if (!isShown()) return;
        if (errors) throw new Error(errors[0].message);
        const { sku, availability } = data.availabilityChanged;
        showAvailability(rows.get(sku), availability);
        say("Live: stock changes as it is sold.");
        delay = FIRST_DELAY;
      }
    } catch (error) {
      if (isShown()) say(`Interrupted, connecting again: ${error.message}`);
    }
    await pause(delay);
    delay = Math.min(delay * 2, LONGEST_DELAY);
  }
}

function markSelected() {
  for (const button of byId("articles").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.textContent === selected));
  }
}

async function showDetails() {
  byId("details").hidden = true;
  const sku = selected;
  if (!sku) {
    tellStaff("Choose an article of the list.");
    return;
  }
  if (!staff) {
    tellStaff(`Enter a token that may read, for the history of ${sku}.`);
    byId("token").focus();
    return;
  }
  const variables = { sku, from: isoDate(DAYS), to: isoDate(0) };
  const { sku: record } = await execute(staff, DETAILS, variables);
  if (sku !== selected) return;
  warehouseIds = record.stock.map(({ warehouse }) => warehouse.id);
  reservationId = reservationKey = undefined;
  byId("release").hidden = true;
  byId("title").textContent = `${sku}: ${record.title}`;
  byId("details").hidden = false;
  const past = record.stockHistory.map((period) => period.closing);
  // The last period ends now.
  showChart([...past.slice(0, -1), record.totalOnHand]);
  tellStaff("");
  byId("title").focus();
}

function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function reserve() {
  const quantity = byId("quantity").valueAsNumber;
  const input = {
    lines: [{ sku: selected, quantity, warehouseIds, split: true }],
    idempotencyKey: (reservationKey ??= newKey()),
  };
  const { reserveStock } = await execute(staff, RESERVE, { input });
  const { id, expiresAt } = reserveStock.reservation;
  reservationId = id;
  byId("release").hidden = false;
  const time = new Date(expiresAt).toLocaleTimeString("en-GB");
  tellStaff(`Reserved ${number.format(quantity)} of ${selected} until ${time}.`);
}

async function release() {
  await execute(staff, RELEASE, { id: reservationId });
  byId("release").hidden = true;
  byId("quantity").focus();
  tellStaff(`Released the reservation of ${selected}.`);
}

function isCertain(error) {
  return error instanceof Refusal && error.status < 500 && error.code !== "IDEMPOTENCY_IN_FLIGHT";
}

// Runs a step of the staff, and tells why it failed.
function attempt(step) {
  return async (event) => {
    event.preventDefault();
    try {
      await step(event);
      reservationKey = undefined;
    } catch (error) {
      if (isCertain(error)) reservationKey = undefined;
      tellStaff(error.message);
    }
  };
}

byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  showList(byId("text").value.trim(), null);
});
byId("first").addEventListener("click", () => showList(byId("text").value.trim(), null));
byId("next").addEventListener("click", () => nextPage?.());
byId("articles").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  selected = button.textContent;
  markSelected();
  attempt(showDetails)(event);
});
byId("sign-in").addEventListener(
  "submit",
  attempt(async () => {
    staff = `Bearer ${byId("token").value.trim()}`;
    await showDetails();
  }),
);
byId("reserve").addEventListener("submit", attempt(reserve));
byId("release").addEventListener("click", attempt(release));
showList("", null);
