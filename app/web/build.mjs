// Bundles the four pages and their workers: `node build.mjs <output directory>`.
// All file names have a content hash except manifest.json, which lists the files of the pages, and
// licenses.txt, which has the licences of the bundled packages. Scripts and styles are also written
// compressed.
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
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

// Features of Monaco that the page does not use: it compares no texts, and its languages, GraphQL and
// JSON, offer no such things as code lenses, suggestions in grey or new names of symbols.
const UNUSED_FEATURES =
  /^import '.*\/(codelens|colorPicker|diffEditor|diffEditorBreadcrumbs|dropOrPasteInto|inlayHints|inlineCompletions|inlineEdits?|inlineProgress|inspectTokens|referenceSearch|rename|sectionHeaders|semanticTokens|stickyScroll)\/.*\n|^import '.*suggestInlineCompletions.*\n/gm;
const withoutUnusedFeatures = {
  name: "without-unused-features",
  setup({ onLoad }) {
    onLoad({ filter: /vs\/editor\/(editor\.all|edcore\.main)\.js$/ }, ({ path }) => {
      const source = readFileSync(path, "utf8");
      const contents = source.replace(UNUSED_FEATURES, "");
      if (contents === source) throw new Error(`${path} has changed: see withoutUnusedFeatures.`);
      return { contents, resolveDir: dirname(path) };
    });
    onLoad({ filter: /\/(diffEditor|multiDiffEditor)Widget\.js$/ }, () => ({
      contents: "export class DiffEditorWidget {}; export class MultiDiffEditorWidget {}",
    }));
  },
};

// GraphiQL's style sheet contains its fonts. As files of their own they are loaded when a text needs
// them, after the scripts.
const fontsAsFiles = {
  name: "fonts-as-files",
  setup({ onLoad, onResolve }) {
    onResolve({ filter: /^data:font\// }, ({ path }) => {
      const [, type, content] = /^data:font\/(\w+);base64,(.*)$/.exec(path);
      const hash = createHash("sha256").update(content).digest("hex");
      return { path: `${hash}.${type}`, namespace: "font", pluginData: content };
    });
    onLoad({ filter: /.*/, namespace: "font" }, ({ pluginData }) => ({
      contents: Buffer.from(pluginData, "base64"),
      loader: "file",
    }));
  },
};

// GraphiQL's check of variables requires input fields that have a default, and underlines them in red.
const defaultsAreOptional = {
  name: "defaults-are-optional",
  setup({ onLoad }) {
    onLoad({ filter: /getVariablesJSONSchema\.js$/ }, ({ path }) => {
      const source = readFileSync(path, "utf8");
      const contents = source.replace("if (fieldRequired)", "if (isRequiredInputField(field))");
      if (contents === source) throw new Error(`${path} has changed: see defaultsAreOptional.`);
      return { contents: `import { isRequiredInputField } from "graphql";\n${contents}` };
    });
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
  assetNames: "font-[hash]",
  define: { "process.env.NODE_ENV": '"production"' },
  plugins: [withoutMonacoStyles, withoutUnusedFeatures, fontsAsFiles, defaultsAreOptional],
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
  entryPoints: ["graphiql.jsx", "docs.js", "live.js", "shop.js"],
  splitting: true,
  jsx: "automatic",
  define: { ...shared.define, WORKER_FILES: JSON.stringify(workerFiles) },
});

// The scripts that a page imports, also those that its imports import. Prettier is left out: only its
// button loads it.
const { outputs } = pages.metafile;
function importsOf(file, found = new Set()) {
  for (const { path, external } of outputs[file].imports) {
    if (external || found.has(path) || /prettier/.test(outputs[path].entryPoint)) continue;
    if (path.endsWith(".js")) importsOf(path, found.add(path));
  }
  return found;
}

const manifest = {};
for (const [file, { entryPoint, cssBundle }] of Object.entries(outputs)) {
  const page = /^(graphiql|docs|live|shop)\.jsx?$/.exec(entryPoint ?? "")?.[1];
  if (!page) continue;
  manifest[page] = {
    script: basename(file),
    style: basename(cssBundle),
    // A browser loads six files at a time: the longest downloads begin first.
    imports: [...importsOf(file)]
      .sort((one, other) => outputs[other].bytes - outputs[one].bytes)
      .map((path) => basename(path)),
  };
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
