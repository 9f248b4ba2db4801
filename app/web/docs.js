import SwaggerUI from "swagger-ui-dist/swagger-ui-es-bundle.js";
import "swagger-ui-dist/swagger-ui.css";
import "./docs.css";

const config = JSON.parse(document.getElementById("config").textContent);

// Swagger UI has a dark style, but only its top bar turns it on, and this page has no top bar.
const darkness = matchMedia("(prefers-color-scheme: dark)");
const applyDarkness = () => document.documentElement.classList.toggle("dark-mode", darkness.matches);
darkness.addEventListener("change", applyDarkness);
applyDarkness();

// Swagger UI's list of servers has no label.
function labelServers() {
  document.getElementById("servers")?.setAttribute("aria-label", "Server");
}

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
  deepLinking: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  onComplete: () => {
    preauthorize();
    labelServers();
  },
});
