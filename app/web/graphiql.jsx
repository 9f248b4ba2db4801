import { explorerPlugin } from "@graphiql/plugin-explorer";
import { GraphiQL, HISTORY_PLUGIN } from "graphiql";
import { getOperationAST, parse } from "graphql";
import { createClient } from "graphql-sse";
import { useMemo, useRef, useState } from "react";
import { createRoot } from "react-dom/client";
import "graphiql/style.css";
import "@graphiql/plugin-explorer/style.css";
import "./graphiql.css";

globalThis.MonacoEnvironment = {
  getWorker: (_id, label) =>
    new Worker(new URL(WORKER_FILES[label] ?? WORKER_FILES.editor, import.meta.url), {
      type: "module",
    }),
};

const configText = document.getElementById("config").textContent + location.search;
const config = JSON.parse(document.getElementById("config").textContent);

// A link such as /graphql?query=.. opens a tab with its query.
const link = new URLSearchParams(location.search);
if (link.has("query")) {
  const variables = link.get("variables") ?? "";
  config.tabs.unshift({ query: link.get("query"), variables, headers: config.headers });
}

// The session storage survives a reload and ends with the browser tab, so that tokens are not kept.
// If the tabs or the token of the page have changed (the server was restarted), the storage is
// cleared: GraphiQL would otherwise show its stored tabs in place of the new ones.
if (sessionStorage.getItem("config") !== configText) {
  sessionStorage.clear();
  sessionStorage.setItem("config", configText);
  for (const [name, text] of Object.entries(config.tabs[0] ?? {})) {
    if (text) sessionStorage.setItem(`graphiql:${name}`, text);
  }
}

const PLUGINS = [HISTORY_PLUGIN, explorerPlugin()];

function parseHeaders(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}

const MISSING_TOKEN = "Write a token after Bearer in the Headers editor to load the schema.";

const hasToken = (headers) => /^Bearer\s+\S/i.test(headers.Authorization ?? "");

function findOperation({ query, operationName }) {
  try {
    return getOperationAST(parse(query), operationName);
  } catch {
    return null;
  }
}

// For a moment after another tab was chosen, GraphiQL still has the operation of the one before.
function withoutStaleName({ operationName, ...params }) {
  return findOperation({ operationName, ...params }) ? { operationName, ...params } : params;
}

async function execute(params, headers) {
  const response = await fetch(config.endpoint, {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      Accept: "application/graphql-response+json, application/json",
      ...headers,
    },
    body: JSON.stringify(params),
  });
  return response.json();
}

function subscribe(params, headers) {
  const client = createClient({ url: config.endpoint, headers, retryAttempts: 0 });
  return client.iterate(params);
}

function Page() {
  const [headersText, setHeadersText] = useState(
    () => sessionStorage.getItem("graphiql:headers") ?? config.headers,
  );
  const timer = useRef();
  const { Authorization: authorization } = parseHeaders(headersText);

  // GraphiQL loads the schema before its headers editor exists, and again when the fetcher changes:
  // the fetcher depends on the token.
  const fetcher = useMemo(
    () =>
      async (sent, { headers } = {}) => {
        const params = withoutStaleName(sent);
        // A token that was written in one tab counts in all tabs without one of their own.
        const all = hasToken(headers ?? {}) ? headers : { ...headers, Authorization: authorization };
        if (params.operationName !== "IntrospectionQuery" || hasToken(all)) {
          return findOperation(params)?.operation === "subscription"
            ? subscribe(params, all)
            : execute(params, all);
        }
        return { errors: [{ message: MISSING_TOKEN }] };
      },
    [authorization],
  );

  const onEditHeaders = (text) => {
    clearTimeout(timer.current);
    if (!hasToken(parseHeaders(text))) return;
    timer.current = setTimeout(() => setHeadersText(text), 500);
  };

  return (
    <GraphiQL
      fetcher={fetcher}
      plugins={PLUGINS}
      storage={sessionStorage}
      shouldPersistHeaders
      showPersistHeadersSettings={false}
      defaultTabs={config.tabs}
      defaultHeaders={config.headers}
      defaultEditorToolsVisibility={hasToken(parseHeaders(headersText)) || "headers"}
      onEditHeaders={onEditHeaders}
    >
      <GraphiQL.Logo>
        <a href="docs">REST reference</a>
      </GraphiQL.Logo>
    </GraphiQL>
  );
}

createRoot(document.getElementById("app")).render(<Page />);
