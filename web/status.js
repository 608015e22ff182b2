// The status page: fetches the lists, then applies server-sent events to them.
//
// What is on the screen is always drawn from `state` alone. After every (re)connection, and when the orchestrator says
// that events were missed, the lists are fetched anew; events that arrive meanwhile wait. Text from elsewhere only ever
// becomes text nodes.

const state = { nodes: new Map(), workloads: new Map(), migrations: new Map(), decision: null, policy: null };
const LIST_LENGTH = 20;
const CANDIDATES_SHOWN = 12;
const OVER = ["done", "rolled-back", "failed"];
let loaded = false;
let clockOffset = 0; // the orchestrator's clock minus this one's, in ms

// ---------------------------------------------------------------------------------------------------- words and units

const NBSP = "\u00a0";
const DASH = "–";
const known = (value) => value !== null && value !== undefined;

const percent = (fraction) => `${Math.round(fraction * 100)}${NBSP}%`;

function bytes(amount) {
  if (amount < 1024) return `${Math.round(amount)}${NBSP}B`;
  const units = ["KiB", "MiB", "GiB", "TiB", "PiB"];
  let at = -1;
  while (amount >= 1023.5 && at < units.length - 1) {
    amount /= 1024;
    at += 1;
  }
  return `${amount.toFixed(amount < 9.95 ? 1 : 0)}${NBSP}${units[at]}`;
}

function milliseconds(ms) {
  if (ms < 9.95) return `${ms.toFixed(1)}${NBSP}ms`;
  if (ms < 999.5) return `${Math.round(ms)}${NBSP}ms`;
  if (ms < 9950) return `${(ms / 1000).toFixed(1)}${NBSP}s`;
  if (ms < 59500) return `${Math.round(ms / 1000)}${NBSP}s`;
  const minutes = Math.floor(ms / 60000);
  if (minutes < 60) return `${minutes}${NBSP}min ${Math.floor((ms % 60000) / 1000)}${NBSP}s`;
  return `${Math.floor(minutes / 60)}${NBSP}h ${minutes % 60}${NBSP}min`;
}

function measured(factor) {
  if (!known(factor.value)) return "unknown";
  if (factor.unit === "fraction") return percent(factor.value);
  if (factor.unit === "ms") return milliseconds(factor.value);
  const short = { "tasks per core": "per core", "× a reference core": "×" };
  return `${Number(factor.value.toFixed(factor.value < 1 ? 2 : 1))}${NBSP}${short[factor.unit] ?? factor.unit}`;
}

function ago(at) {
  const s = Math.floor((Date.now() + clockOffset - Date.parse(at)) / 1000);
  if (s < 1) return "now";
  if (s < 120) return `${s}${NBSP}s ago`;
  if (s < 7200) return `${Math.floor(s / 60)}${NBSP}min ago`;
  if (s < 172800) return `${Math.floor(s / 3600)}${NBSP}h ago`;
  return `${Math.floor(s / 86400)} days ago`;
}

const count = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
const spaced = (name) => name.replaceAll("_", " ").replaceAll("-", " ");

// ------------------------------------------------------------------------------------------------------------ drawing

// An element. `share` and `mark` (0 to 1) size a bar; `key` keeps an element the same one in a list that changes.
function el(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (!known(value) || value === false) continue;
    if (name === "share" || name === "mark") element.style.setProperty(`--${name}`, String(Math.min(1, Math.max(0, value))));
    else if (name === "grow") element.style.setProperty("--grow", String(Math.max(value, 0)));
    else if (name === "key") element.dataset.key = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => known(child) && child !== false));
  return element;
}

// Makes `current` look like `wanted` and touches nothing that is the same: focus, selection and what a person has opened
// stay. Inline style attributes are forbidden by the page's policy, so sizes are copied as properties.
function morph(current, wanted) {
  for (const { name } of [...current.attributes]) {
    if (name !== "style" && name !== "open" && !wanted.hasAttribute(name)) current.removeAttribute(name);
  }
  for (const { name, value } of [...wanted.attributes]) {
    if (name !== "style" && name !== "open" && current.getAttribute(name) !== value) current.setAttribute(name, value);
  }
  for (const name of ["--share", "--mark", "--grow"]) {
    const value = wanted.style.getPropertyValue(name);
    if (current.style.getPropertyValue(name) !== value) current.style.setProperty(name, value);
  }
  morphChildren(current, [...wanted.childNodes]);
}

function morphChildren(parent, wanted) {
  const keyed = new Map();
  for (const child of parent.children) if (child.dataset.key) keyed.set(child.dataset.key, child);
  wanted.forEach((next, at) => {
    let current = parent.childNodes[at];
    const same = next.dataset?.key && keyed.get(next.dataset.key);
    if (same && same !== current) {
      parent.insertBefore(same, current ?? null);
      current = same;
    }
    const alike = current && current.nodeName === next.nodeName && current.dataset?.key === next.dataset?.key;
    if (!alike) parent.insertBefore(next, current ?? null);
    else if (next.nodeType !== Node.ELEMENT_NODE) current.data === next.data || (current.data = next.data);
    else morph(current, next);
  });
  while (parent.childNodes.length > wanted.length) parent.lastChild.remove();
}

const fill = (id, ...children) => morphChildren(document.getElementById(id), [...el("div", {}, ...children).childNodes]);
const empty = (text) => el("p", { class: "empty" }, text);
const chip = (text, tone) => el("span", { class: "chip", "data-tone": tone }, text);
const bar = (share, mark, tone) => el("span", { class: "bar", "aria-hidden": "true", share, mark, "data-marked": known(mark), "data-tone": tone });
const since = (at) => el("time", { datetime: at, "data-ago": true, title: new Date(at).toLocaleString() }, ago(at));
const fact = (name, ...value) => el("div", {}, el("dt", {}, name), el("dd", {}, value));

// -------------------------------------------------------------------------------------------------------------- nodes

function nodeCard(node) {
  const used = node.utilization;
  const limits = state.policy?.overload;
  const workloads = [...state.workloads.values()].filter((workload) => workload.node === node.name);
  const incoming = [...state.migrations.values()].filter((m) => m.destination === node.name && !OVER.includes(m.phase) && !workloads.some((w) => w.name === m.workload));
  const tone = { active: "good", suspect: "warning", offline: "bad" }[node.availability];
  return el("article", { class: "node", key: node.name, "data-availability": node.availability, "aria-label": `Node ${node.name}` },
    el("header", {}, el("h3", {}, node.name), node.draining ? chip("draining", "warning") : node.cordoned && chip("cordoned", "warning"), chip(node.availability, tone)),
    used ? [gauge("CPU", used.cpu_sustained, limits?.cpu?.start), gauge("Memory", used.memory, limits?.memory?.start)] : el("p", { class: "quiet" }, "No sample yet."),
    used && el("dl", { class: "facts three" },
      fact("Run queue", used.run_queue.toFixed(1)),
      fact("Temperature", known(used.temperature_c) ? `${Math.round(used.temperature_c)}${NBSP}°C` : DASH),
      fact("Disk", percent(used.disk))),
    used && used.pressure && el("div", {}, el("h4", {}, "Pressure: time lost waiting for"), el("dl", { class: "facts three" },
      fact("CPU", percent(used.pressure.cpu)), fact("memory", percent(used.pressure.memory)), fact("io", percent(used.pressure.io)))),
    links(node),
    containers(workloads, incoming),
    !node.connected && node.availability === "active" && el("p", { class: "note", "data-tone": "warning" }, "Its agent’s connection is closed just now."),
    node.facts.cannot_migrate.map((why) => el("p", { class: "note", "data-tone": "warning" }, why)),
    el("footer", { class: "quiet" },
      Object.entries(node.facts.labels).map(([name, value]) => el("span", { class: "label" }, `${name} ${value}`)),
      el("span", {}, "heard ", known(node.heartbeat_at) ? since(node.heartbeat_at) : "never")));
}

function gauge(name, share, limit) {
  const over = known(limit) && share >= limit;
  const title = known(limit) ? `Overloaded from ${percent(limit)}` : null;
  return el("div", { class: "gauge", title },
    el("span", {}, name), el("strong", {}, percent(share), over && el("span", { class: "unseen" }, " (overloaded)")),
    bar(share, limit, over ? "bad" : null));
}

function links(node) {
  if (!node.links.length) return null;
  const shown = node.links.slice().sort((a, b) => (a.rtt_ms ?? Infinity) - (b.rtt_ms ?? Infinity)).slice(0, 6);
  const text = (link) => [known(link.rtt_ms) ? milliseconds(link.rtt_ms) : "no answer", known(link.bandwidth_mbps) && el("span", { class: "quiet" }, `${Math.round(link.bandwidth_mbps)}${NBSP}Mbit/s`)];
  return el("div", {}, el("h4", {}, "Round trip to"),
    el("dl", { class: "facts" }, shown.map((link) => fact(link.to, text(link)))),
    node.links.length > shown.length && el("p", { class: "quiet" }, `and ${count(node.links.length - shown.length, "more link")}`));
}

function containers(workloads, incoming) {
  const item = (workload) => {
    const moving = [...state.migrations.values()].find((m) => m.id === workload.migration);
    const tone = moving ? "accent" : workload.state === "running" ? null : "warning";
    const words = moving ? `moving to ${moving.destination}` : workload.state === "running" ? null : workload.state;
    return el("li", { key: workload.name, "data-tone": tone, title: workload.obstacles.join(" ") || null },
      el("span", { class: "name" }, workload.name),
      words && chip(words, tone),
      workload.obstacles.length > 0 && chip("cannot move", "plain"),
      el("span", { class: "quiet figures" }, `${workload.cpus.toFixed(2)} CPU, ${bytes(workload.memory_bytes)}`));
  };
  const coming = (migration) => el("li", { key: `coming-${migration.id}`, class: "coming" }, el("span", { class: "name" }, migration.workload), chip(`coming from ${migration.source}`, "accent"));
  return el("div", {}, el("h4", {}, "Containers"),
    workloads.length + incoming.length ? el("ul", { class: "containers" }, workloads.map(item), incoming.map(coming)) : el("p", { class: "quiet" }, "None"));
}

// --------------------------------------------------------------------------------------------------------- migrations

function migrationCard(migration, first) {
  const over = OVER.includes(migration.phase);
  const end = over ? Date.parse(migration.phases.at(-1).at) : Date.now() + clockOffset;
  const tone = { done: "good", "rolled-back": "warning", "rolling-back": "warning", failed: "bad" }[migration.phase] ?? "accent";
  return el("details", { class: "migration", key: migration.id, open: first || !over },
    el("summary", {},
      el("span", { class: "name" }, migration.workload), el("span", { class: "route" }, `${migration.source} → ${migration.destination}`),
      chip(spaced(migration.phase), tone),
      el("span", { class: "quiet figures" }, known(migration.downtime_ms) ? `downtime ≤${NBSP}${milliseconds(migration.downtime_ms)}` : ""),
      el("span", { class: "quiet when" }, since(migration.created_at))),
    migration.progress && progress(migration.progress),
    timeline(migration, end),
    el("dl", { class: "facts wide" },
      fact("Downtime", known(migration.downtime_ms) ? `≤${NBSP}${milliseconds(migration.downtime_ms)}` : DASH),
      fact("Checkpoint", known(migration.checkpoint_bytes) ? bytes(migration.checkpoint_bytes) : DASH),
      fact("Sent", known(migration.sent_bytes) ? bytes(migration.sent_bytes) : DASH),
      Object.entries(migration.stages_ms).sort(byStage).map(([stage, ms]) => fact(spaced(stage), milliseconds(ms)))),
    migration.cause && cause(migration),
    el("p", { class: "quiet" }, `${migration.strategy}, asked for by ${migration.asked_by === "policy" ? "the planner" : `a ${migration.asked_by}`}. `, el("code", {}, `fogctl explain ${migration.id.slice(0, 13)}`)));
}

const STAGES = ["freeze", "dump", "ship", "verify", "restore", "resume"];
const byStage = ([a], [b]) => STAGES.indexOf(a) - STAGES.indexOf(b);

function timeline(migration, end) {
  const spans = migration.phases.map((entry, at) => {
    const until = at + 1 < migration.phases.length ? Date.parse(migration.phases[at + 1].at) : end;
    return { phase: entry.phase, ms: Math.max(0, until - Date.parse(entry.at)), current: at + 1 === migration.phases.length };
  }).filter((span) => !OVER.includes(span.phase));
  const tone = (span) => (span.phase === "rolling-back" ? "warning" : span.phase === "moving" ? "accent" : null);
  return el("div", { class: "timeline" },
    el("div", { class: "track", "aria-hidden": "true" }, spans.map((span) => el("span", { grow: span.ms, "data-tone": tone(span), "data-current": span.current && !OVER.includes(migration.phase) }))),
    el("ol", {}, spans.map((span) => el("li", { "data-tone": tone(span) }, el("span", {}, spaced(span.phase)), el("strong", {}, milliseconds(span.ms))))));
}

function progress({ stage, bytes: done, bytes_total: total }) {
  const words = known(total) ? `${bytes(done)} of ${bytes(total)}` : done > 0 ? bytes(done) : "";
  return el("div", { class: "gauge" }, el("span", {}, spaced(stage)), el("strong", {}, words), known(total) && total > 0 && bar(done / total));
}

function cause(migration) {
  const { step, node, message, log } = migration.cause;
  const where = [step && `step ${spaced(step)}`, node && `on ${node}`].filter(Boolean).join(" ");
  return el("div", { class: "note", "data-tone": migration.phase === "failed" ? "bad" : "warning" },
    el("p", {}, el("strong", {}, message), where && ` (${where})`),
    log.length > 0 && el("pre", { tabindex: "0", "aria-label": "Log" }, log.join("\n")));
}

// ----------------------------------------------------------------------------------------------------------- decision

function decisionView(decision) {
  const shown = decision.candidates.slice(0, CANDIDATES_SHOWN);
  const weights = new Map(shown.flatMap((c) => Object.entries(c.factors)).map(([name, factor]) => [name, factor.weight]));
  const names = [...weights.keys()].sort((a, b) => weights.get(b) - weights.get(a) || a.localeCompare(b));
  const largest = Math.max(1e-9, ...shown.flatMap((c) => Object.values(c.factors)).map((factor) => factor.contribution));
  const who = decision.asked_by === "policy" ? "decided by the planner" : `asked for by a ${decision.asked_by}`;
  return [
    el("p", { class: "sentence" }, decision.reason.replace(/(\d) (%|ms|s|°C)(?=\W|$)/g, `$1${NBSP}$2`)),
    el("p", { class: "quiet" }, el("span", { class: "name" }, decision.workload), ` ${decision.source} → ${decision.destination ?? "stays"}, ${who} under policy version ${decision.policy_version}, `, since(decision.at)),
    el("table", { role: "table" },
      el("caption", {}, `Candidates for ${decision.workload}, best first. A bar is a factor’s part of the score.`),
      el("thead", { role: "rowgroup" }, el("tr", { role: "row" },
        ["Node", "Score"].map((name) => el("th", { scope: "col", role: "columnheader", class: `for-${name.toLowerCase()}` }, name)),
        names.map((name) => el("th", { scope: "col", role: "columnheader" }, spaced(name), " ", el("span", { class: "quiet" }, `× ${Number(weights.get(name).toFixed(3))}`))))),
      el("tbody", { role: "rowgroup" }, shown.map((candidate) => candidateRow(candidate, names, largest)))),
    decision.candidates.length > shown.length && el("p", { class: "quiet" }, `and ${count(decision.candidates.length - shown.length, "more candidate")}, all in fogctl explain`),
  ];
}

function candidateRow(candidate, names, largest) {
  const tone = { chosen: "good", rejected: "plain", infeasible: "warning" }[candidate.verdict];
  const cell = (name) => {
    const factor = candidate.factors[name];
    if (!factor) return el("td", { role: "cell", "data-name": spaced(name) }, DASH);
    return el("td", { role: "cell", "data-name": spaced(name), title: `normalised ${factor.normalised.toFixed(3)} × weight ${factor.weight.toFixed(3)} = ${factor.contribution.toFixed(4)}` },
      el("span", { class: "value" }, measured(factor)), bar(factor.contribution / largest), el("span", { class: "quiet contribution" }, factor.contribution.toFixed(3)));
  };
  return el("tr", { role: "row", key: candidate.node, "data-verdict": candidate.verdict },
    el("th", { scope: "row", role: "rowheader" }, el("span", { class: "name" }, candidate.node), " ", chip(candidate.verdict, tone), el("span", { class: "reason" }, candidate.reason)),
    el("td", { role: "cell", class: "score", "data-name": "score" }, known(candidate.score) ? candidate.score.toFixed(3) : DASH),
    names.map(cell));
}

// ---------------------------------------------------------------------------------------------------------- the whole

function draw() {
  if (!loaded) return;
  const nodes = [...state.nodes.values()].sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  const migrations = [...state.migrations.values()].sort((a, b) => (a.id < b.id ? 1 : -1)).slice(0, LIST_LENGTH);
  const moving = migrations.filter((migration) => !OVER.includes(migration.phase)).length;
  fill("nodes", nodes.length ? nodes.map(nodeCard) : empty("No node has reported yet: start fog-agent on one."));
  fill("decision", state.decision ? decisionView(state.decision) : empty("Nothing has been decided yet: a decision is made when a node is overloaded, or when somebody asks for a migration."));
  fill("migrations", migrations.length ? migrations.map((migration, at) => migrationCard(migration, at === 0)) : empty("Nothing has been migrated yet."));
  fill("summary", `${count(nodes.length, "node")}, ${count(state.workloads.size, "container")}${moving ? `, ${moving} moving` : ""}`);
}

let scheduled = false;
function drawSoon() {
  if (scheduled) return;
  scheduled = true;
  setTimeout(() => {
    scheduled = false;
    draw();
  }, 60);
}

function connection(name, text) {
  document.getElementById("connection").dataset.state = name;
  const words = document.getElementById("connection-text");
  if (words.textContent !== text) words.textContent = text;
}

// ------------------------------------------------------------------------------------------------------------- events

const apply = {
  node: ({ node }) => state.nodes.set(node.name, node),
  workload: ({ workload }) => state.workloads.set(workload.name, workload),
  "workload-gone": ({ name }) => state.workloads.delete(name),
  decision: ({ decision }) => { if (!state.decision || decision.id > state.decision.id) state.decision = decision; },
  migration: ({ migration }) => {
    const before = state.migrations.get(migration.id);
    if (before && before.phases.length > migration.phases.length) return; // the list was newer
    state.migrations.set(migration.id, migration);
    if (state.migrations.size > 4 * LIST_LENGTH) for (const id of [...state.migrations.keys()].sort().slice(0, LIST_LENGTH)) state.migrations.delete(id);
    if (before?.phase !== migration.phase) document.getElementById("announcer").textContent = `${migration.workload} from ${migration.source} to ${migration.destination}: ${spaced(migration.phase)}`;
  },
  policy: () => fetchJson("/v1/policy").then((view) => { state.policy = view.policy; drawSoon(); }).catch(() => {}),
};

async function fetchJson(path) {
  const asked = Date.now();
  const answer = await fetch(path, { headers: { accept: "application/json" }, signal: AbortSignal.timeout(30000) });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  const date = Date.parse(answer.headers.get("date") ?? "");
  const offset = date + 500 - (asked + Date.now()) / 2;
  if (Number.isFinite(offset)) clockOffset = Math.abs(offset) > 2000 ? offset : 0;
  return answer.json();
}

let waiting = null; // events that arrive while the lists are being fetched
let generation = 0;

async function load() {
  const mine = ++generation;
  waiting = [];
  try {
    const [nodes, workloads, migrations, decisions, policy] = await Promise.all(
      ["/v1/nodes", "/v1/workloads", `/v1/migrations?limit=${LIST_LENGTH}`, "/v1/decisions?limit=1", "/v1/policy"].map(fetchJson));
    if (mine !== generation) return;
    const by = (list, field) => new Map(list.items.map((item) => [item[field], item]));
    Object.assign(state, { nodes: by(nodes, "name"), workloads: by(workloads, "name"), migrations: by(migrations, "id"), decision: decisions.items[0] ?? null, policy: policy.policy });
    loaded = true;
    const missed = waiting;
    waiting = null;
    for (const [name, data] of missed) apply[name](data);
    connection("live", "live");
    drawSoon();
  } catch {
    if (mine !== generation) return;
    connection("reconnecting", "reconnecting…");
    setTimeout(() => { if (mine === generation) load(); }, 2000);
  }
}

function listen() {
  const source = new EventSource("/v1/events");
  source.addEventListener("ready", load);
  source.addEventListener("missed", load);
  for (const name of Object.keys(apply)) {
    source.addEventListener(name, (event) => {
      const data = JSON.parse(event.data);
      if (waiting) waiting.push([name, data]);
      else {
        apply[name](data);
        drawSoon();
      }
    });
  }
  source.onerror = () => {
    generation += 1; // a fetch under way is of the connection that broke
    connection("reconnecting", "reconnecting…");
    if (source.readyState === EventSource.CLOSED) {
      source.close();
      setTimeout(listen, 2000);
    }
  };
}

// A node that falls silent sends no event that says so: then the orchestrator is asked.
const SILENT_MS = 5000;
setInterval(async () => {
  const silent = (node) => node.availability !== "offline" && known(node.heartbeat_at) && Date.now() + clockOffset - Date.parse(node.heartbeat_at) > SILENT_MS;
  if (waiting || ![...state.nodes.values()].some(silent)) return;
  const mine = generation;
  const nodes = await fetchJson("/v1/nodes").catch(() => null);
  if (!nodes || mine !== generation) return;
  for (const node of nodes.items) if ((node.heartbeat_at ?? "") >= (state.nodes.get(node.name)?.heartbeat_at ?? "")) state.nodes.set(node.name, node);
  drawSoon();
}, 3000);

setInterval(() => {
  for (const time of document.querySelectorAll("time[data-ago]")) {
    const words = ago(time.dateTime);
    if (time.textContent !== words) time.firstChild.data = words;
  }
  if ([...state.migrations.values()].some((migration) => !OVER.includes(migration.phase))) drawSoon();
}, 1000);

listen();
