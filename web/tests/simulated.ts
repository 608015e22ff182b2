// The real orchestrator with simulated nodes, as `fog-sim` makes them. Both end with the test.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export interface Cluster {
  url: string;
  token: string;
  stop: () => Promise<void>;
  /** SIGKILL for the orchestrator, and the same again on its data. */
  kill: () => Promise<void>;
  restart: () => Promise<void>;
}

export const here = dirname(fileURLToPath(import.meta.url));
const programs = process.env["FOG_BIN_DIR"] ?? join(here, "../../target/release");

async function freePort(): Promise<number> {
  return new Promise((found, failed) => {
    const server = createServer();
    server.on("error", failed);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => (address && typeof address === "object" ? found(address.port) : failed(new Error("no port"))));
    });
  });
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = new Promise((done) => child.once("exit", done));
  child.kill("SIGTERM");
  await exit;
}

/** Waits for a condition with a deadline. */
export async function until<T>(what: string, seconds: number, condition: () => Promise<T | null | undefined | false>): Promise<T> {
  const deadline = Date.now() + seconds * 1000;
  let last: unknown = null;
  while (Date.now() < deadline) {
    try {
      const found = await condition();
      if (found) return found;
    } catch (error) {
      last = error;
    }
    await new Promise((wake) => setTimeout(wake, 150));
  }
  throw new Error(`waited ${seconds} s in vain for ${what}${last ? `: ${String(last)}` : ""}`);
}

/** Carries bytes to the orchestrator and back, until `cut` ends every connection at once. */
export async function between(url: string): Promise<{ url: string; cut: () => number; close: () => void }> {
  const { hostname, port } = new URL(url);
  const open = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect(Number(port), hostname);
    for (const [one, other] of [[near, far], [far, near]] as const) {
      open.add(one);
      one.on("error", () => other.destroy());
      one.on("close", () => { open.delete(one); other.destroy(); });
      one.pipe(other);
    }
  });
  await new Promise<void>((listens) => server.listen(0, "127.0.0.1", listens));
  const address = server.address();
  const cut = () => {
    const count = open.size;
    for (const socket of open) socket.destroy();
    return count;
  };
  return { url: `http://127.0.0.1:${address && typeof address === "object" ? address.port : 0}`, cut, close: () => { cut(); server.close(); } };
}

/** Keeps figures of make test-full in tests/results/dashboard.json, with the day and the commit that they are of. */
export function keep(what: string, figures: object): void {
  const folder = join(here, "../../tests/results");
  const file = join(folder, "dashboard.json");
  const known = existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>) : {};
  const commit = execFileSync("git", ["rev-parse", "--short", "HEAD"], { cwd: here, encoding: "utf8" }).trim();
  mkdirSync(folder, { recursive: true });
  writeFileSync(file, `${JSON.stringify({ ...known, [what]: { date: new Date().toISOString().slice(0, 10), commit, ...figures } }, null, 2)}\n`);
}

const pairs = (map: Record<string, string | number>): string => Object.entries(map).map(([name, value]) => `${name}=${value}`).join(",");

export async function start(options: { nodes: Record<string, number>; workloads?: Record<string, string>; policy?: string; more?: string[] }): Promise<Cluster> {
  const folder = mkdtempSync(join(tmpdir(), "fog-web-"));
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const children: ChildProcess[] = [];
  const stop = async () => {
    await Promise.all(children.map(ended));
    rmSync(folder, { recursive: true, force: true });
  };
  const run = (program: string, given: string[]) => {
    children.push(spawn(join(programs, program), given, { stdio: ["ignore", "ignore", "inherit"], env: { ...process.env, RUST_LOG: "error" } }));
  };
  try {
    if (!existsSync(join(programs, "fog-orchestrator"))) throw new Error(`no programs in ${programs}: run make build first`);
    const serve = () => run("fog-orchestrator", ["--data-dir", folder, "--listen", `127.0.0.1:${port}`, ...(options.policy ? ["--policy", options.policy] : [])]);
    serve();
    await until("the orchestrator", 30, async () => (await fetch(`${url}/readyz`)).ok);
    const token = readFileSync(join(folder, "token"), "utf8").trim();
    const workloads = options.workloads ? ["--workloads", pairs(options.workloads)] : [];
    if (Object.keys(options.nodes).length) run("fog-sim", ["--url", url, "--token", token, "--nodes", pairs(options.nodes), ...workloads, ...(options.more ?? [])]);
    const kill = async () => {
      const [orchestrator] = children.splice(0, 1);
      if (!orchestrator) throw new Error("no orchestrator runs");
      const exit = new Promise((done) => orchestrator.once("exit", done));
      orchestrator.kill("SIGKILL");
      await exit;
    };
    const restart = async () => {
      serve();
      children.unshift(...children.splice(-1));
      await until("the orchestrator again", 30, async () => (await fetch(`${url}/readyz`)).ok);
    };
    return { url, token, stop, kill, restart };
  } catch (error) {
    await stop();
    throw error;
  }
}
