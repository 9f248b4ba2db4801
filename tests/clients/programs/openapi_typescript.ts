import createClient from "openapi-fetch";
import type { paths } from "./openapi";

async function main(): Promise<void> {
  const [baseUrl, token] = process.argv.slice(2);
  const api = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } });
  const { data } = await api.GET("/api/inventory", { params: { query: { limit: 2 } } });
  if (data?.meta.total !== 1248) throw new Error("wrong page");
  const { error } = await api.GET("/api/inventory/{sku}", { params: { path: { sku: "NOPE" } } });
  if (error?.error.code !== "INVENTORY_NOT_FOUND") throw new Error("wrong error");
}

void main();
