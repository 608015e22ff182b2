// What a JSON schema allows at a place of a TOML text: for completion. Knows the part of TOML that policies are made of.

export interface Schema {
  $ref?: string; $defs?: Record<string, Schema>; properties?: Record<string, Schema>; items?: Schema; type?: string | string[];
  enum?: unknown[]; const?: unknown; anyOf?: Schema[]; oneOf?: Schema[]; allOf?: Schema[]; description?: string; default?: unknown;
}
export interface Choice { label: string; detail: string; info: string }
export type Context =
  | { kind: "header"; from: number; many: boolean }
  | { kind: "key"; path: string[]; from: number }
  | { kind: "value"; path: string[]; from: number }
  | null;

/** Follows references and optional wrappers to what is really described. */
export function resolve(schema: Schema | undefined, root: Schema): Schema {
  let current = schema ?? {};
  for (let depth = 0; depth < 16; depth += 1) {
    if (current.$ref) {
      const name = current.$ref.split("/").at(-1) ?? "";
      current = { ...root.$defs?.[name], ...(current.description ? { description: current.description } : {}) };
      continue;
    }
    const parts = current.allOf ?? current.anyOf?.filter((one) => one.type !== "null");
    if (parts?.length === 1 && !current.properties) {
      current = { ...parts[0], ...(current.description ? { description: current.description } : {}) };
      continue;
    }
    return current;
  }
  return current;
}

export function at(root: Schema, path: readonly string[]): Schema {
  let current = resolve(root, root);
  for (const step of path) {
    if (current.items) current = resolve(current.items, root);
    current = resolve(current.properties?.[step], root);
  }
  return current.items ? { ...resolve(current.items, root), ...(current.description ? { description: current.description } : {}) } : current;
}

/** Where in the text a position is. */
export function context(text: string, position: number): Context {
  const lineStart = text.lastIndexOf("\n", position - 1) + 1;
  const line = text.slice(lineStart, position);
  if (/^\s*#/.test(line) || /^[^"']*#/.test(line)) return null;
  const header = /^\s*(\[\[?)\s*([\w.]*)$/.exec(line);
  if (header) return { kind: "header", from: position - (header[2]?.length ?? 0), many: header[1] === "[[" };
  const path: string[] = [];
  for (const before of text.slice(0, lineStart).split("\n")) {
    const table = /^\s*\[\[?\s*([\w.]+)\s*\]\]?\s*(?:#.*)?$/.exec(before);
    if (table) path.splice(0, path.length, ...(table[1] ?? "").split("."));
  }
  // Inline tables: cpu = { start = 0.8, do|
  const inline = /^\s*([\w.]+)\s*=\s*\{(.*)$/.exec(line);
  if (inline) {
    const inner = [...path, ...(inline[1] ?? "").split(".")];
    const part = (inline[2] ?? "").split(",").at(-1) ?? "";
    return assignment(part, inner, position);
  }
  return assignment(line, path, position);
}

function assignment(part: string, path: string[], position: number): Context {
  const value = /^\s*([\w.]+)\s*=\s*(.*)$/.exec(part);
  if (value) {
    const word = /["\w.-]*$/.exec(value[2] ?? "")?.[0] ?? "";
    return { kind: "value", path: [...path, ...(value[1] ?? "").split(".")], from: position - word.length };
  }
  const key = /^\s*([\w.]*)$/.exec(part);
  if (!key) return null;
  const dotted = (key[1] ?? "").split(".");
  const word = dotted.pop() ?? "";
  return { kind: "key", path: [...path, ...dotted], from: position - word.length };
}

const kindOf = (schema: Schema): string => {
  const kind = Array.isArray(schema.type) ? schema.type.filter((one) => one !== "null").join(" or ") : (schema.type ?? "");
  return kind || (words(schema).length ? "one of" : schema.properties ? "table" : "");
};

function words(schema: Schema): { value: string; info: string }[] {
  if (schema.enum) return schema.enum.map((value) => ({ value: String(value), info: "" }));
  return (schema.oneOf ?? []).flatMap((one) => (one.const !== undefined ? [{ value: String(one.const), info: one.description ?? "" }] : (one.enum ?? []).map((value) => ({ value: String(value), info: one.description ?? "" }))));
}

/** What can be written there. */
export function choices(root: Schema, where: Context): Choice[] {
  if (!where) return [];
  if (where.kind === "header") {
    return Object.entries(root.properties ?? {}).flatMap(([name, raw]) => {
      const schema = resolve(raw, root);
      const many = schema.type === "array" || schema.items !== undefined;
      if (where.many !== many || (!many && !schema.properties)) return [];
      return [{ label: name, detail: many ? "tables" : "table", info: schema.description ?? "" }];
    });
  }
  if (where.kind === "key") {
    const properties = at(root, where.path).properties ?? {};
    return Object.entries(properties).map(([name, raw]) => {
      const schema = resolve(raw, root);
      return { label: name, detail: kindOf(schema), info: raw.description ?? schema.description ?? "" };
    });
  }
  const schema = at(root, where.path);
  const found = words(schema).map(({ value, info }) => ({ label: JSON.stringify(value), detail: "", info }));
  if (schema.type === "boolean") found.push({ label: "true", detail: "", info: "" }, { label: "false", detail: "", info: "" });
  if (!found.length && schema.default !== undefined && typeof schema.default !== "object") found.push({ label: JSON.stringify(schema.default), detail: "default", info: "" });
  return found;
}
