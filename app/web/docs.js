import SwaggerUI from "swagger-ui-dist/swagger-ui-es-bundle.js";
import "swagger-ui-dist/swagger-ui.css";
import "./docs.css";

const config = JSON.parse(document.getElementById("config").textContent);

// Swagger UI has a dark style, but only its top bar turns it on, and this page has no top bar.
const darkness = matchMedia("(prefers-color-scheme: dark)");
const applyDarkness = () => document.documentElement.classList.toggle("dark-mode", darkness.matches);
darkness.addEventListener("change", applyDarkness);
applyDarkness();

// Swagger UI's parser and resolver are made for YAML and for references to other documents, and take a
// second. This document is JSON, and its references are local and not recursive.
function inlined(value, document) {
  if (Array.isArray(value)) return value.map((item) => inlined(item, document));
  if (value === null || typeof value !== "object") return value;
  if (typeof value.$ref === "string") {
    // Swagger UI takes the name of a schema from `$$ref`.
    return { ...subtree(document, value.$ref.slice(2).split("/")), $$ref: value.$ref };
  }
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [name, inlined(item, document)]),
  );
}

const subtree = (document, path) =>
  inlined(
    path.reduce((value, name) => value[name], document),
    document,
  );

const localDocument = () => ({
  fn: {
    resolveSubtree: async (document, path) => ({ spec: subtree(document, path), errors: [] }),
  },
  statePlugins: {
    spec: {
      wrapActions: {
        parseToJson: (_original, { specActions }) => (text) =>
          specActions.updateJsonSpec(JSON.parse(text)),
      },
    },
  },
});

// Swagger UI's lists of servers, values and examples have no labels.
function labelLists() {
  for (const list of document.querySelectorAll("select:not([aria-label])")) {
    const parameter = list.closest("[data-param-name]")?.dataset.paramName;
    list.ariaLabel = list.id === "servers" ? "Server" : (parameter ?? "Example");
  }
}
new MutationObserver(labelLists).observe(document.body, { childList: true, subtree: true });

function preauthorize() {
  if (!config.token) return;
  const schemes = ui.specSelectors.specJson().toJS().components?.securitySchemes ?? {};
  for (const [name, { type, scheme }] of Object.entries(schemes)) {
    if (type === "http" && scheme.toLowerCase() === "bearer") {
      ui.preauthorizeApiKey(name, config.token);
    }
  }
}

const ui = SwaggerUI({
  dom_id: "#app",
  url: config.openapiUrl,
  validatorUrl: null,
  plugins: [localDocument],
  deepLinking: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  onComplete: preauthorize,
});
