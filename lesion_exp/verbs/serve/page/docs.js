// The page of the API, made from its schema; no file of another server is loaded.

import { byId, make } from "./dom.js";

async function start() {
  const schema = await (await fetch("openapi.json")).json();
  const operations = Object.entries(schema.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => show(schema, path, method, operation)));
  byId("docs").replaceChildren(
    make("h1", {}, `${schema.info.title} ${schema.info.version}: ${schema.info.summary.toLowerCase()}`),
    make("p", { className: "lead" }, schema.info.description),
    ...operations,
  );
}

function show(schema, path, method, operation) {
  const content = operation.requestBody?.content || {};
  const forms = Object.entries(content).map(([type, media]) => fields(schema, `Form (${type})`, media.schema));
  return make("section", { className: "operation" },
    make("h2", {}, make("span", { className: "method" }, method.toUpperCase()), make("code", {}, path)),
    make("p", {}, operation.summary, operation.security ? " (needs the key)" : ""),
    operation.description ? make("p", {}, operation.description.replaceAll("`", "")) : null,
    make("pre", { tabIndex: 0, ariaLabel: "Example" }, make("code", {}, example(path, method, operation))),
    ...(operation.parameters ? [parameters(operation.parameters)] : []),
    ...forms,
    answers(schema, operation.responses));
}

function example(path, method, operation) {
  const address = `${location.origin}${location.pathname.replace(/docs$/, "")}${path.slice(1)}`;
  const key = operation.security ? ' -H "X-API-Key: $KEY"' : "";
  return method === "post" ? `curl${key} -F file=@lesion.jpg -F file=@other.png "${address}?gradcam=true"` : `curl${key} ${address}`;
}

function table(caption, head, rows) {
  return make("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: caption }, make("table", {},
    make("caption", {}, caption),
    make("thead", {}, make("tr", {}, head.map((text) => make("th", { scope: "col" }, text)))),
    make("tbody", {}, rows.map((row) => make("tr", {}, row.map((cell) => make("td", {}, cell)))))));
}

function parameters(found) {
  return table("Options in the address", ["name", "type", "default", "meaning"], found.map((entry) => [make("code", {}, entry.name), entry.schema.type, String(entry.schema.default ?? "–"), entry.description || entry.schema.title || ""]));
}

function fields(schema, caption, of) {
  const found = resolved(schema, of);
  const rows = Object.entries(found.properties || {}).map(([name, entry]) => [
    make("code", {}, name), (found.required || []).includes(name) ? "yes" : "no", typeOf(schema, entry), entry.description || "",
  ]);
  return table(caption, ["field", "always", "type", "meaning"], rows);
}

function answers(schema, responses) {
  const shown = [];
  const refusals = [];
  for (const [status, response] of Object.entries(responses)) {
    const of = response.content?.["application/json"]?.schema;
    if (status === "200") shown.push(...trees(schema, of));
    else refusals.push([status, response.description]);
  }
  if (refusals.length) shown.push(table("Other statuses; the body is {\"error\": ...}", ["status", "when"], refusals));
  return make("details", {}, make("summary", {}, "Answers"), ...(shown.length ? shown : [make("p", { className: "hint" }, "Plain text.")]));
}

// The schema of an answer and of everything that it refers to, each once.
function trees(schema, of) {
  const names = [];
  const collect = (node) => {
    if (!node || typeof node !== "object") return;
    const name = node.$ref?.split("/").pop();
    if (name) {
      if (names.includes(name)) return;
      names.push(name);
      collect(schema.components.schemas[name]);
      return;
    }
    Object.values(node).forEach(collect);
  };
  collect(of);
  if (!names.length) return [make("p", { className: "hint" }, "A JSON object.")];
  return names.map((name) => fields(schema, name, schema.components.schemas[name]));
}

const resolved = (schema, node) => (node.$ref ? schema.components.schemas[node.$ref.split("/").pop()] : node);

function typeOf(schema, node) {
  if (node.$ref) return node.$ref.split("/").pop();
  if (node.anyOf) return node.anyOf.map((entry) => typeOf(schema, entry)).join(" or ");
  if (node.enum) return node.enum.join(", ");
  if (node.type === "array") return `list of ${typeOf(schema, node.items)}`;
  if (node.type === "object") return node.additionalProperties?.type ? `object of ${node.additionalProperties.type}s` : "object";
  return node.format === "binary" ? "file" : node.type || "anything";
}

start();
