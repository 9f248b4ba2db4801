// What the pages of live stock and of the shop share.
import "./page.css";

export const FIRST_DELAY = 500;
export const LONGEST_DELAY = 15_000;
const WIDTH = 600;
const HEIGHT = 160;
const DAY = 86_400_000;

export const config = JSON.parse(document.getElementById("config").textContent);
export const byId = (id) => document.getElementById(id);
export const number = new Intl.NumberFormat("en");
export const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

export function element(name, text, attributes = {}) {
  const created = document.createElement(name);
  created.textContent = text;
  for (const [key, value] of Object.entries(attributes)) created.setAttribute(key, value);
  return created;
}

export function isoDate(daysAgo) {
  return new Date(Date.now() - daysAgo * DAY).toISOString().slice(0, 10);
}

// An error that the service has answered.
export class Refusal extends Error {
  constructor({ message, extensions }) {
    super(message);
    this.code = extensions?.code;
    this.status = extensions?.status;
  }
}

export async function execute(authorization, query, variables) {
  const response = await fetch(config.endpoint, {
    method: "POST",
    headers: { Authorization: authorization, "Content-Type": "application/json" },
    body: JSON.stringify({ query, variables }),
  });
  const { data, errors } = await response.json();
  if (errors) throw new Refusal(errors[0]);
  return data;
}

// Shows on hand of each day; the last value is the present one.
export function showChart(values) {
  const most = Math.max(...values, 1);
  const step = WIDTH / Math.max(values.length - 1, 1);
  const y = (value) => HEIGHT - (value / most) * HEIGHT;
  const points = values.map((value, index) => `${(index * step).toFixed(1)},${y(value).toFixed(1)}`);
  byId("line").setAttribute("points", points.join(" "));
  byId("most").textContent = number.format(most);
  byId("chart").setAttribute(
    "aria-label",
    `On hand of the last ${values.length - 1} days: ${number.format(values[0])} at first, ${number.format(values.at(-1))} now, ${number.format(most)} at most`,
  );
}
