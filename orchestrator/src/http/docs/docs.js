// Shows /openapi.json. Everything is put in as text, so nothing in the document can become markup.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];

function element(name, ...children) {
  const made = document.createElement(name);
  made.append(...children);
  return made;
}

function reference(name) {
  const link = element("a", name);
  link.href = `#schema-${name}`;
  return link;
}

/** A schema as a short text with links, `deep` levels of fields at most. */
function shape(schema) {
  if (schema === true || schema === undefined || Object.keys(schema).length === 0) return ["anything"];
  if (schema.$ref) return [reference(schema.$ref.split("/").pop())];
  const several = schema.oneOf ?? schema.anyOf ?? schema.allOf;
  if (several) return several.flatMap((one, index) => (index ? [schema.allOf ? " and " : " or ", ...shape(one)] : shape(one)));
  if (schema.const !== undefined) return [JSON.stringify(schema.const)];
  if (schema.enum) return [schema.enum.map((value) => JSON.stringify(value)).join(" | ")];
  const type = [schema.type ?? "anything"].flat().join(" or ");
  if (schema.items) return ["list of ", ...shape(schema.items)];
  if (schema.additionalProperties && !schema.properties) return ["map to ", ...shape(schema.additionalProperties)];
  const limits = [];
  if (schema.format) limits.push(schema.format);
  if (schema.minimum !== undefined) limits.push(`≥ ${schema.minimum}`);
  if (schema.maximum !== undefined) limits.push(`≤ ${schema.maximum}`);
  if (schema.maxLength !== undefined) limits.push(`at most ${schema.maxLength} characters`);
  return [limits.length ? `${type} (${limits.join(", ")})` : type];
}

function table(heads, rows) {
  const head = element("tr", ...heads.map((text) => element("th", text)));
  return element("table", head, ...rows.map((cells) => element("tr", ...cells.map((cell) => element("td", ...[cell].flat())))));
}

function fields(schema) {
  const required = new Set(schema.required ?? []);
  return Object.entries(schema.properties ?? {}).map(([name, field]) => [
    element("code", name), shape(field), required.has(name) ? "required" : "", field.description ?? "",
  ]);
}

function body(title, content) {
  return Object.entries(content ?? {}).flatMap(([type, media]) => [element("p", element("strong", title), ` ${type}: `, ...shape(media.schema))]);
}

function operation(method, path, what) {
  const summary = element("summary", element("b", method.toUpperCase()), element("code", path), what.summary ?? "");
  const parts = [summary];
  if (what.description) parts.push(element("p", what.description));
  const guarded = (what.security ?? []).length > 0 && !what.security.some((way) => Object.keys(way).length === 0);
  if (guarded) parts.push(element("p", "Needs the administrator's token."));
  if (what.parameters?.length) {
    const rows = what.parameters.map((one) => [element("code", one.name), one.in, shape(one.schema), one.required ? "required" : "", one.description ?? ""]);
    parts.push(element("h3", "Parameters"), table(["name", "in", "type", "", ""], rows));
  }
  if (what.requestBody) parts.push(...body("Body", what.requestBody.content));
  const answers = Object.entries(what.responses).map(([status, answer]) => [
    element("code", status), answer.description ?? "", Object.entries(answer.content ?? {}).flatMap(([type, media]) => [`${type}: `, ...shape(media.schema)]),
  ]);
  parts.push(element("h3", "Answers"), table(["status", "", ""], answers));
  const details = element("details", ...parts);
  details.dataset.text = `${method} ${path} ${what.summary ?? ""} ${what.description ?? ""}`.toLowerCase();
  return details;
}

function schemaEntry(name, schema) {
  const parts = [element("summary", element("code", name), schema.description?.split("\n")[0] ?? "")];
  if (schema.description) parts.push(element("p", schema.description));
  if (schema.properties) parts.push(table(["field", "type", "", ""], fields(schema)));
  else parts.push(element("p", ...shape(schema)));
  for (const one of schema.oneOf ?? []) if (one.properties) parts.push(table(["field", "type", "", ""], fields(one)));
  const details = element("details", ...parts);
  details.id = `schema-${name}`;
  details.dataset.text = `${name} ${schema.description ?? ""}`.toLowerCase();
  return details;
}

function show(api) {
  document.querySelector("#version").textContent = api.info.version;
  document.querySelector("#about").textContent = api.info.description;
  const groups = new Map();
  for (const [path, item] of Object.entries(api.paths))
    for (const method of METHODS)
      if (item[method]) {
        const tag = item[method].tags?.[0] ?? "other";
        groups.set(tag, [...(groups.get(tag) ?? []), operation(method, path, item[method])]);
      }
  const sections = [...groups].map(([tag, all]) => element("section", element("h2", tag), ...all));
  const schemas = Object.entries(api.components.schemas).map(([name, schema]) => schemaEntry(name, schema));
  document.querySelector("#operations").replaceChildren(...sections, element("section", element("h2", "Schemas"), ...schemas));
}

function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target) {
    target.open = true;
    target.scrollIntoView();
  }
}

document.querySelector("#search").addEventListener("input", (event) => {
  const wanted = event.target.value.trim().toLowerCase();
  for (const details of document.querySelectorAll("details")) details.hidden = !details.dataset.text.includes(wanted);
  for (const section of document.querySelectorAll("section"))
    section.hidden = ![...section.querySelectorAll("details")].some((details) => !details.hidden);
});
addEventListener("hashchange", openTarget);

fetch("/openapi.json")
  .then((answer) => (answer.ok ? answer.json() : Promise.reject(new Error(`/openapi.json answered ${answer.status}`))))
  .then((api) => {
    show(api);
    openTarget();
  })
  .catch((error) => { document.querySelector("#operations").textContent = `The description cannot be shown: ${error.message}`; });
