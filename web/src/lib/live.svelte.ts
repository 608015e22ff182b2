// The state of the cluster as the orchestrator tells it: the lists once, then every event applied to them.
//
// Events that arrive while the lists are on their way wait, and are applied after them. A connection that broke is begun
// again with the id of the last event; where the orchestrator cannot resume, the lists are fetched anew. So the screen
// never shows less than what was told. Events are applied in batches: a thousand nodes speak every two seconds.

import { failure, Failed, get, headers } from "./api";
import { clock } from "./clock.svelte";
import { isOver } from "./migration";
import { type Limits, overloads } from "./overload";
import { session } from "./session.svelte";
import { type Message, read } from "./sse";
import { text } from "./text";
import type { Decision, Migration, Node, Workload } from "./types";

export type Connection = "connecting" | "live" | "reconnecting";
interface PolicyView { version: number; policy?: { overload?: Limits } }
interface List<T> { items: T[]; next_cursor?: string | null }

const BATCH_MS = 100;
const SILENCE_MS = 25_000; // the orchestrator says something every 10 s
const RETRY_MS = [500, 1000, 2000, 4000];
export const KEPT_MIGRATIONS = 400;
export const KEPT_DECISIONS = 200;
const KEPT_EVENTS = 1000;
const RECALLED = 500;

export interface Happening { key: number; at: number; kind: string; subject: string; what: string; href: string | null }

class Live {
  nodes = $state.raw<ReadonlyMap<string, Node>>(new Map());
  workloads = $state.raw<ReadonlyMap<string, Workload>>(new Map());
  migrations = $state.raw<ReadonlyMap<string, Migration>>(new Map());
  decisions = $state.raw<ReadonlyMap<string, Decision>>(new Map());
  happened = $state.raw<readonly Happening[]>([]);
  policyVersion = $state<number | null>(null);
  connection = $state<Connection>("connecting");
  loaded = $state(false);
  failed = $state<Failed | null>(null);
  /** What a screen reader is told. */
  announcement = $state("");

  running = $derived([...this.migrations.values()].filter((migration) => !isOver(migration)));
  byNode = $derived.by(() => {
    const map = new Map<string, Workload[]>();
    for (const workload of this.workloads.values()) {
      const list = map.get(workload.node);
      if (list) list.push(workload);
      else map.set(workload.node, [workload]);
    }
    for (const list of map.values()) list.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
    return map;
  });

  /** The nodes that the policy calls overloaded. */
  limits = $state.raw<Limits>({});
  hot = $derived.by(() => {
    const names = new Set<string>();
    for (const node of this.nodes.values()) if (node.availability !== "offline" && overloads(node, this.limits).length) names.add(node.name);
    return names;
  });

  private waiting: Message[] | null = [];
  private batch: Message[] = [];
  private timer: ReturnType<typeof setTimeout> | null = null;
  private lastId = "";
  private abort: AbortController | null = null;
  private heard = 0;
  private recalled = false;
  private eventKey = 0;

  /** Runs until `stop`; called once somebody is signed in. */
  async start(): Promise<void> {
    this.stop();
    const abort = new AbortController();
    this.abort = abort;
    for (let tries = 0; !abort.signal.aborted; tries += 1) {
      const before = Date.now();
      await this.listen(abort);
      if (abort.signal.aborted) return;
      this.connection = "reconnecting";
      if (Date.now() - before > 10_000) tries = 0;
      await new Promise((wake) => setTimeout(wake, RETRY_MS[Math.min(tries, RETRY_MS.length - 1)]));
    }
  }

  stop(): void {
    this.abort?.abort();
    this.abort = null;
    if (this.timer) clearTimeout(this.timer);
    this.timer = null;
    this.batch = [];
    this.lastId = "";
    this.recalled = false;
    this.happened = [];
    this.loaded = false;
    this.connection = "connecting";
    this.failed = null;
  }

  private async listen(abort: AbortController): Promise<void> {
    const inner = new AbortController();
    const signal = AbortSignal.any([abort.signal, inner.signal]);
    this.heard = Date.now();
    const watch = setInterval(() => { if (Date.now() - this.heard > SILENCE_MS) inner.abort(); }, 1000);
    try {
      const resuming = this.loaded && this.lastId !== "";
      const response = await fetch("/v1/events", {
        headers: { ...headers(), accept: "text/event-stream", ...(resuming ? { "last-event-id": this.lastId } : {}) },
        signal,
      });
      if (!response.ok) {
        const failed = await failure(response);
        if (failed.status === 401) session.end(text.signIn.refused);
        if (!this.loaded) this.failed = failed;
        return;
      }
      await read(response, (message) => this.take(message, signal), () => { this.heard = Date.now(); });
    } catch {
      if (!this.loaded && !abort.signal.aborted) this.failed = new Failed(text.errors.unreachable, 0);
    } finally {
      clearInterval(watch);
    }
  }

  private take(message: Message, signal: AbortSignal): void {
    if (message.id) this.lastId = message.id;
    if (message.event === "ready") {
      // What happened since the last event follows. What changes all the time is not kept: it is fetched anew.
      void this.load(signal);
      return;
    }
    if (message.event === "missed") {
      void this.load(signal);
      return;
    }
    if (this.waiting) {
      this.waiting.push(message);
      return;
    }
    this.batch.push(message);
    this.timer ??= setTimeout(() => this.flush(), BATCH_MS);
  }

  private async load(signal: AbortSignal): Promise<void> {
    this.waiting = [];
    try {
      const [nodes, workloads, migrations, decisions, policy] = await Promise.all([
        everything<Node>("/v1/nodes"),
        everything<Workload>("/v1/workloads"),
        get<List<Migration>>("/v1/migrations", { limit: 100 }).then((list) => list.items),
        get<List<Decision>>("/v1/decisions", { limit: 100 }).then((list) => list.items),
        get<PolicyView>("/v1/policy"),
      ]);
      if (signal.aborted) return;
      this.nodes = new Map(nodes.map((node) => [node.name, node]));
      this.workloads = new Map(workloads.map((workload) => [workload.name, workload]));
      this.migrations = new Map(migrations.map((migration) => [migration.id, migration]));
      this.decisions = new Map(decisions.map((decision) => [decision.id, decision]));
      this.policyVersion = policy.version;
      this.limits = policy.policy?.overload ?? {};
      this.batch = [...this.batch, ...(this.waiting ?? [])];
      this.waiting = null;
      this.flush();
      this.loaded = true;
      this.failed = null;
      this.connection = "live";
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Failed && !this.loaded) this.failed = error;
      this.connection = "reconnecting";
      setTimeout(() => { if (!signal.aborted) void this.load(signal); }, 2000);
    }
  }

  private flush(): void {
    if (this.timer) clearTimeout(this.timer);
    this.timer = null;
    const messages = this.batch;
    this.batch = [];
    if (!messages.length) return;
    const draft: Draft = {};
    const told: Happening[] = [];
    for (const { event, data } of messages) {
      try {
        this.apply(event, JSON.parse(data), draft, told);
      } catch (error) {
        console.error(`an event of kind ${event} cannot be read`, error);
      }
    }
    if (draft.nodes) this.nodes = draft.nodes;
    if (draft.workloads) this.workloads = draft.workloads;
    if (draft.migrations) this.migrations = bounded(draft.migrations, KEPT_MIGRATIONS);
    if (draft.decisions) this.decisions = bounded(draft.decisions, KEPT_DECISIONS);
    if (told.length) this.happened = [...told.reverse(), ...this.happened].slice(0, KEPT_EVENTS);
  }

  private apply(event: string, data: unknown, draft: Draft, told: Happening[], past = false): void {
    const said = (data as { at?: string }).at;
    const at = said ? Date.parse(said) : clock.exact();
    const tell = (kind: string, subject: string, what: string, href: string | null) =>
      told.push({ key: (this.eventKey += 1), at, kind, subject, what, href });
    switch (event) {
      case "node": {
        const { node } = data as { node: Node };
        draft.nodes ??= new Map(this.nodes);
        const before = draft.nodes.get(node.name);
        // The lists hold links; where an event leaves them out, the known ones stay.
        draft.nodes.set(node.name, node.links ? node : { ...node, links: before?.links ?? [] });
        if (!before) tell("node", node.name, text.happened.newNode, `#/nodes/${encodeURIComponent(node.name)}`);
        break;
      }
      case "workload": {
        const { workload } = data as { workload: Workload };
        draft.workloads ??= new Map(this.workloads);
        draft.workloads.set(workload.name, workload);
        break;
      }
      case "workload-found": {
        const { name, node } = data as { name: string; node: string };
        tell("workload", name, text.happened.found(node), `#/workloads/${encodeURIComponent(name)}`);
        break;
      }
      case "availability": {
        const { name, availability } = data as { name: string; availability: Node["availability"] };
        draft.nodes ??= new Map(this.nodes);
        const node = draft.nodes.get(name);
        if (node) draft.nodes.set(name, { ...node, availability });
        tell("node", name, text.happened.availability(availability), `#/nodes/${encodeURIComponent(name)}`);
        break;
      }
      case "node-ordered": {
        const { name, cordoned, draining, by } = data as { name: string; cordoned: boolean; draining: boolean; by: string };
        draft.nodes ??= new Map(this.nodes);
        const node = draft.nodes.get(name);
        if (node) draft.nodes.set(name, { ...node, cordoned, draining });
        tell("node", name, text.happened.ordered(cordoned, draining, by), `#/nodes/${encodeURIComponent(name)}`);
        break;
      }
      case "workload-gone": {
        const { name } = data as { name: string };
        draft.workloads ??= new Map(this.workloads);
        draft.workloads.delete(name);
        tell("workload", name, text.happened.gone, null);
        break;
      }
      case "migration": {
        const { migration } = data as { migration: Migration };
        draft.migrations ??= new Map(this.migrations);
        const before = draft.migrations.get(migration.id);
        if (before && before.phases.length > migration.phases.length) break; // the list was newer
        draft.migrations.set(migration.id, migration);
        if (before?.phase !== migration.phase) {
          const what = text.happened.migration(migration);
          tell("migration", migration.workload, what, `#/migrations/${migration.id}`);
          if (!past) this.announcement = `${migration.workload}: ${what}`;
        }
        break;
      }
      case "decision": {
        const { decision } = data as { decision: Decision };
        draft.decisions ??= new Map(this.decisions);
        if (!draft.decisions.has(decision.id)) tell("decision", decision.workload, decision.reason, `#/decisions/${decision.id}`);
        draft.decisions.set(decision.id, decision);
        break;
      }
      case "policy": {
        const { version } = data as { version: number };
        if (!past) {
          this.policyVersion = version;
          get<PolicyView>("/v1/policy").then((policy) => { this.limits = policy.policy?.overload ?? {}; }).catch(() => { /* the next connection asks again */ });
        }
        tell("policy", text.policy.title, text.happened.policy(version), "#/policy");
        break;
      }
    }
  }

  /** What happened before this page was opened, from the orchestrator's history. */
  async recall(): Promise<void> {
    if (this.recalled || this.lastId === "") return;
    this.recalled = true;
    const after = Math.max(0, Number(this.lastId) - RECALLED);
    const first = this.happened.at(-1)?.at ?? Infinity;
    const response = await fetch(`/v1/events?follow=false&live=false&after=${after}`, { headers: headers() });
    if (!response.ok) return;
    const told: Happening[] = [];
    const draft: Draft = { nodes: new Map(), workloads: new Map(), migrations: new Map(), decisions: new Map() };
    await read(response, ({ event, data }) => {
      if (event === "ready" || event === "missed") return;
      this.apply(event, JSON.parse(data), draft, told, true);
    }, () => { /* it ends by itself */ });
    this.happened = [...this.happened, ...told.filter((one) => one.at < first).reverse()].slice(0, KEPT_EVENTS);
  }
}

interface Draft {
  nodes?: Map<string, Node>;
  workloads?: Map<string, Workload>;
  migrations?: Map<string, Migration>;
  decisions?: Map<string, Decision>;
}

/** Ids sort by time: the oldest go. Running migrations never do. */
function bounded<T extends { id: string }>(map: Map<string, T>, most: number): Map<string, T> {
  if (map.size <= most) return map;
  const ids = [...map.keys()].sort();
  for (const id of ids.slice(0, map.size - most)) {
    const one = map.get(id);
    if (one && "phase" in one && !isOver(one as unknown as Migration)) continue;
    map.delete(id);
  }
  return map;
}

/** Every page of a list. */
async function everything<T>(where: string): Promise<T[]> {
  const items: T[] = [];
  let cursor: string | null | undefined;
  do {
    const list: List<T> = await get<List<T>>(where, { limit: 1000, cursor });
    items.push(...list.items);
    cursor = list.next_cursor;
  } while (cursor);
  return items;
}

export const live = new Live();
