// Bundles the two pages and their workers: `node build.mjs <output directory>`.
// All file names have a content hash except manifest.json, which lists the files of the pages, and
// licenses.txt, which has the licences of the bundled packages. Scripts and styles are also written
// compressed.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { build } from "esbuild";

const outdir = process.argv[2];
if (!outdir) throw new Error("usage: node build.mjs <output directory>");
mkdirSync(outdir, { recursive: true });

// The style sheet of GraphiQL contains Monaco's, so the imports of Monaco's modules are emptied.
const withoutMonacoStyles = {
  name: "without-monaco-styles",
  setup({ onLoad }) {
    onLoad({ filter: /monaco-editor.*\.css$/ }, () => ({ contents: "", loader: "empty" }));
  },
};

const shared = {
  outdir,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  entryNames: "[name]-[hash]",
  chunkNames: "chunk-[hash]",
  define: { "process.env.NODE_ENV": '"production"' },
  plugins: [withoutMonacoStyles],
  // GraphiQL imports these by their old names, which are scripts without named exports.
  alias: {
    "prettier/parser-babel": "prettier/plugins/babel",
    "prettier/parser-graphql": "prettier/plugins/graphql",
  },
  legalComments: "none",
  logLevel: "warning",
  metafile: true,
};

const workers = await build({
  ...shared,
  entryPoints: {
    "editor.worker": "monaco-editor/esm/vs/editor/editor.worker.js",
    "json.worker": "monaco-editor/esm/vs/language/json/json.worker.js",
    "graphql.worker": "monaco-graphql/esm/graphql.worker.js",
  },
});

const workerFiles = {};
for (const file of Object.keys(workers.metafile.outputs)) {
  workerFiles[basename(file).split(".")[0]] = basename(file);
}

const pages = await build({
  ...shared,
  entryPoints: ["graphiql.jsx", "docs.js"],
  splitting: true,
  jsx: "automatic",
  define: { ...shared.define, WORKER_FILES: JSON.stringify(workerFiles) },
});

const manifest = {};
for (const [file, { entryPoint, cssBundle }] of Object.entries(pages.metafile.outputs)) {
  const page = /^(graphiql|docs)\.jsx?$/.exec(entryPoint ?? "")?.[1];
  if (page) manifest[page] = { script: basename(file), style: basename(cssBundle) };
}
writeFileSync(join(outdir, "manifest.json"), `${JSON.stringify(manifest, null, 2)}\n`);

const inputs = [workers, pages].flatMap(({ metafile }) => Object.keys(metafile.inputs));
const packages = new Set(
  inputs.map((path) => /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1]).filter(Boolean),
);
const licenses = [...packages].sort().map((path) => {
  const { name, version, license } = JSON.parse(readFileSync(join(path, "package.json"), "utf8"));
  const texts = readdirSync(path, { withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => entry.name)
    .filter((file) => /licen[cs]e|^notice|^copying|^thirdpartynotices/i.test(file))
    .map((file) => readFileSync(join(path, file), "utf8").trim());
  return [`${name} ${version} (${license})`, ...texts].join("\n\n");
});
writeFileSync(join(outdir, "licenses.txt"), `${licenses.join(`\n\n${"-".repeat(79)}\n\n`)}\n`);

for (const name of readdirSync(outdir).filter((file) => /\.(js|css)$/.test(file))) {
  const path = join(outdir, name);
  const content = readFileSync(path);
  // The default quality of Brotli is its best.
  writeFileSync(`${path}.br`, brotliCompressSync(content));
  writeFileSync(`${path}.gz`, gzipSync(content, { level: 9 }));
}
