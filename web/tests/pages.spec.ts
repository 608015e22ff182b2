// Every page, with the real orchestrator and simulated nodes: what is served and how, what axe and the eye think of it, and
// what hostile names do. The screenshots are in web/screenshots.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { expect, type Page, test } from "@playwright/test";
import { between, type Cluster, start, until } from "./simulated.ts";
import { signIn, visit } from "./steps.ts";

const EVIL = '<img src=x onerror="document.title=`owned`">';
const LONG = "Ω".repeat(60) + "長い名前".repeat(20) + "עברית".repeat(6) + "👨‍👩‍👧".repeat(6);
const BUDGET_KIB = 120;
const FIRST_PAINT_MS = 1000;

let cluster: Cluster;
let migration = "";
let decision = "";
const ask = async <T>(path: string): Promise<T> => (await (await fetch(cluster.url + path, { headers: { authorization: `Bearer ${cluster.token}` } })).json()) as T;

test.beforeAll(async () => {
  cluster = await start({
    nodes: { A: 0.9, B: 0.65, C: 0.2, D: 0.15, ["n".repeat(200)]: 0.5 },
    more: ["--label", "A", "site", LONG, "--label", "B", EVIL, EVIL, "--label", "B", "site", EVIL, "--label", "C", LONG, "x", "--label", "C", "tier", LONG],
    workloads: { looper: "A", "web-1": "B", "web-2": "B", cache: "C", "sensor-gateway": "D", [EVIL]: "C", [LONG]: "B" },
  });
  const found = await until("the looper's move", 90, async () => {
    const list = await ask<{ items: { id: string; phase: string; decision: string }[] }>("/v1/migrations");
    return list.items.find((one) => one.phase === "done");
  });
  migration = found.id;
  decision = found.decision;
});
test.afterAll(async () => { await cluster?.stop(); });

const pages = (): { name: string; hash: string; shows: string }[] => [
  { name: "fog", hash: "#/", shows: "canvas" },
  { name: "nodes", hash: "#/nodes", shows: "tbody tr" },
  { name: "node", hash: "#/nodes/A", shows: ".u-wrap" },
  { name: "workloads", hash: "#/workloads", shows: "tbody tr" },
  { name: "workload", hash: "#/workloads/looper", shows: "#resources" },
  { name: "migrations", hash: "#/migrations", shows: "tbody tr" },
  { name: "migration", hash: `#/migrations/${migration}`, shows: ".card" },
  { name: "decisions", hash: "#/decisions", shows: ".made li" },
  { name: "decision", hash: `#/decisions/${decision}`, shows: ".card" },
  { name: "policy", hash: "#/policy", shows: ".cm-content" },
  { name: "events", hash: "#/events", shows: "h1" },
  { name: "audit", hash: "#/audit", shows: "h1" },
  { name: "long-label", hash: "#/nodes/C", shows: ".labels" },
  { name: "evil-label", hash: "#/nodes/B", shows: ".labels" },
  { name: "long-node", hash: `#/nodes/${"n".repeat(200)}`, shows: "h1" },
  { name: "evil-workload", hash: `#/workloads/${encodeURIComponent(EVIL)}`, shows: "h1" },
  { name: "long-workload", hash: `#/workloads/${encodeURIComponent(LONG)}`, shows: "h1" },
];

function watched(page: Page): string[] {
  const faults: string[] = [];
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("console", (message) => { if (/Content Security Policy|Refused to/.test(message.text())) faults.push(message.text()); });
  page.on("request", (request) => { if (!request.url().startsWith(cluster.url)) faults.push(`it asked ${request.url()}`); });
  return faults;
}

test("it is served compressed, with an ETag, under a strict policy, and never instead of the API", async () => {
  const page = await fetch(cluster.url, { headers: { "accept-encoding": "br" } });
  const html = await page.text();
  expect(page.headers.get("content-encoding")).toBe("br");
  expect(page.headers.get("content-security-policy")).toContain("default-src 'self'");
  expect(html).not.toMatch(/<script(?! type="module")|style=|https?:/);
  const script = /assets\/[^"]+\.js/.exec(html)?.[0] ?? "";
  for (const [encoding, expected] of [["br", "br"], ["gzip", "gzip"], ["identity", null]] as const) {
    const answer = await fetch(`${cluster.url}/${script}`, { headers: { "accept-encoding": encoding } });
    expect(answer.headers.get("content-encoding")).toBe(expected);
    expect(answer.headers.get("cache-control")).toContain("immutable");
    const etag = answer.headers.get("etag") ?? "";
    expect(etag).not.toBe("");
    const again = await fetch(`${cluster.url}/${script}`, { headers: { "accept-encoding": encoding, "if-none-match": etag } });
    expect(again.status).toBe(304);
  }
  for (const path of ["/v1/nothing", "/v1/nodes/nobody", "/assets/nothing.js", "/nothing"]) {
    const answer = await fetch(cluster.url + path, { headers: { accept: "text/html" } });
    expect(answer.status).toBe(404);
    expect(answer.headers.get("content-type")).toBe("application/problem+json");
  }
});

test("its first page needs little script and is painted soon", async ({ browser }) => {
  const paints: number[] = [];
  for (let times = 0; times < 5; times += 1) {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.addInitScript((token) => sessionStorage.setItem("fogshift.token", token), cluster.token);
    await page.goto(cluster.url);
    await expect(page.locator("canvas")).toBeVisible();
    const { kib, paint } = await page.evaluate(() => ({
      kib: performance.getEntriesByType("resource").filter((one) => one.name.endsWith(".js")).reduce((sum, one) => sum + (one as PerformanceResourceTiming).encodedBodySize, 0) / 1024,
      paint: performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? Infinity,
    }));
    expect(kib).toBeGreaterThan(10);
    expect(kib).toBeLessThanOrEqual(BUDGET_KIB);
    paints.push(paint);
    if (times === 0) console.log(`script until the map is there: ${kib.toFixed(1)} KiB compressed`);
    await context.close();
  }
  console.log(`first contentful paint: ${paints.map((paint) => Math.round(paint)).join(", ")} ms`);
  // The best of five: what the page needs, not what else this machine does.
  expect(Math.min(...paints)).toBeLessThan(FIRST_PAINT_MS);
});

const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
async function judge(page: Page): Promise<string[]> {
  // The page's policy lets no test add a script element: the debugger's own way is used.
  await page.evaluate(readFileSync(axe, "utf8"));
  return page.evaluate(async () => {
    const { axe } = window as unknown as { axe: { run: (options: unknown) => Promise<{ violations: { id: string; impact: string; nodes: { html: string; failureSummary: string }[] }[] }> } };
    const { violations } = await axe.run({ resultTypes: ["violations"] });
    return violations.filter((one) => one.impact === "serious" || one.impact === "critical").map((one) => `${one.id}: ${one.nodes.slice(0, 3).map((node) => `${node.html.slice(0, 160)} ${node.failureSummary.slice(0, 200)}`).join(" | ")}`);
  });
}

for (const scheme of ["light", "dark"] as const) {
  for (const [width, height] of [[1360, 860], [390, 844]] as const) {
    test(`every page: ${scheme}, ${width} wide`, async ({ browser }) => {
      const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme, reducedMotion: "reduce" });
      const page = await context.newPage();
      const faults = watched(page);
      await page.goto(cluster.url);
      await expect(page.getByLabel("Access token")).toBeVisible();
      await page.screenshot({ path: `screenshots/sign-in-${scheme}-${width}.png` });
      expect(await judge(page), "sign-in").toEqual([]);
      await signIn(page, cluster.url, cluster.token);
      for (const { name, hash, shows } of pages()) {
        await visit(page, hash, shows);
        await page.evaluate(() => document.fonts.ready.then(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))));
        await page.screenshot({ path: `screenshots/${name}-${scheme}-${width}.png`, fullPage: true });
        expect(await judge(page), name).toEqual([]);
        const sideways = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        expect(sideways, `${name} scrolls sideways`).toBeLessThanOrEqual(0);
      }
      await visit(page, "#/workloads/looper", "h1");
      await page.getByRole("button", { name: "Move…", exact: true }).click();
      await expect(page.getByRole("dialog")).toBeVisible();
      await expect(page.getByTestId("preflight")).toHaveAttribute("aria-busy", "false");
      await page.screenshot({ path: `screenshots/move-${scheme}-${width}.png` });
      expect(await judge(page), "move").toEqual([]);
      await page.keyboard.press("Escape");
      await visit(page, "#/policy", ".cm-content");
      await page.getByRole("button", { name: "Replay" }).click();
      await expect(page.getByTestId("replay")).toBeVisible();
      await expect(page.getByTestId("replay").getByRole("row", { name: /Migrations/ })).toContainText(/\d/);
      await page.screenshot({ path: `screenshots/replay-${scheme}-${width}.png`, fullPage: true });
      expect(await judge(page), "replay").toEqual([]);
      expect(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth), "replay scrolls sideways").toBeLessThanOrEqual(0);
      expect(faults).toEqual([]);
      await context.close();
    });
  }
}

test("hostile names are harmless and can be read", async ({ page }) => {
  const faults = watched(page);
  await signIn(page, cluster.url, cluster.token);
  for (const { hash, shows } of pages()) {
    await visit(page, hash, shows);
    expect(await page.locator("img").count()).toBe(0);
  }
  await visit(page, `#/workloads/${encodeURIComponent(EVIL)}`, "h1");
  await expect(page.locator("h1")).toHaveText(EVIL);
  expect(await page.title()).not.toBe("owned");
  await visit(page, "#/nodes/B", ".labels");
  await expect(page.locator(".labels bdi", { hasText: EVIL }).first()).toHaveText(EVIL);
  for (const [node, label] of [["A", LONG], ["C", LONG]] as const) {
    await visit(page, `#/nodes/${node}`, ".labels");
    await expect(page.locator(".labels bdi", { hasText: label }).first()).toBeVisible();
  }
  await visit(page, "#/workloads", "tbody");
  // Cut to what fits, whole for whoever points at it.
  await expect(page.locator(`main [title="${LONG}"]`).first()).toContainText("…");
  expect(faults).toEqual([]);
});

test("a token that is not valid any more leads back to the sign-in", async ({ page }) => {
  await page.addInitScript(() => sessionStorage.setItem("fogshift.token", "was-valid-once"));
  await page.goto(cluster.url);
  await expect(page.getByLabel("Access token")).toBeVisible();
  await expect(page.getByRole("alert")).toContainText("not valid");
});

test("an empty cluster says what to do", async ({ page }) => {
  const empty = await start({ nodes: {} });
  try {
    await signIn(page, empty.url, empty.token);
    await expect(page.getByText("No node has reported yet")).toBeVisible();
    for (const [hash, words] of [["#/workloads", "No containers"], ["#/migrations", "Nothing has been moved yet"], ["#/decisions", "Nothing has been decided yet"], ["#/nodes/nobody", "There is no node"], ["#/nowhere", "There is no such page"]] as const) {
      await page.evaluate((to) => { location.hash = to; }, hash);
      await expect(page.getByText(words).first()).toBeVisible();
    }
  } finally {
    await empty.stop();
  }
});

// A second reader of the page's own stream: the id of every event that came, in the order of arrival.
function listenIn(): void {
  const seen: { connections: number; ids: number[] } = { connections: 0, ids: [] };
  Object.assign(window, { seen });
  const asked = window.fetch.bind(window);
  window.fetch = async (...given) => {
    const response = await asked(...given);
    if (!response.body || !response.headers.get("content-type")?.startsWith("text/event-stream")) return response;
    seen.connections += 1;
    const [own, copy] = response.body.tee();
    void (async () => {
      const reader = copy.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { done, value } = await reader.read().catch(() => ({ done: true, value: undefined }));
        if (done) return;
        const messages = (rest + value).split("\n\n");
        rest = messages.pop() ?? "";
        for (const message of messages) {
          const id = /^id: ?(\d+)$/m.exec(message)?.[1];
          // `ready` repeats the id that the stream goes on from.
          if (id && !/^event: ?ready$/m.test(message)) seen.ids.push(Number(id));
        }
      }
    })();
    return new Response(own, { status: response.status, headers: response.headers });
  };
}

test("every event is told once, in order, across cut connections and a killed orchestrator", async ({ page }) => {
  const own = await start({ nodes: { A: 0.2, B: 0.2, C: 0.2 }, workloads: { one: "A", two: "B" } });
  const wire = await between(own.url);
  try {
    await page.addInitScript(listenIn);
    await signIn(page, wire.url, own.token);
    const headers = { authorization: `Bearer ${own.token}`, "content-type": "application/json" };
    // Every cordon and uncordon is an event of the history, told or not.
    const happen = async (times: number) => {
      for (let count = 0; count < times; count += 1) {
        const answer = await fetch(`${own.url}/v1/nodes/${"ABC"[count % 3] ?? "A"}/${count % 2 ? "uncordon" : "cordon"}`, { method: "POST", headers });
        expect(answer.status).toBe(200);
      }
    };
    const newest = async (): Promise<number> => {
      const text = await (await fetch(`${own.url}/v1/events?after=0&follow=false`, { headers })).text();
      return Math.max(0, ...[...text.matchAll(/^id: ?(\d+)$/gm)].map((found) => Number(found[1])));
    };
    const first = await newest();
    await happen(20);
    for (let times = 0; times < 3; times += 1) {
      expect(wire.cut()).toBeGreaterThan(0);
      await happen(15);
      await expect(page.locator('.connection[data-state="live"]')).toBeVisible();
      await happen(5);
    }
    await own.kill();
    await expect(page.locator('.connection[data-state="reconnecting"]')).toBeVisible();
    await own.restart();
    await happen(30);
    await expect(page.locator('.connection[data-state="live"]')).toBeVisible();
    await happen(10);
    const last = await newest();
    expect(last).toBeGreaterThanOrEqual(first + 60);
    const seen = () => page.evaluate(() => (window as unknown as { seen: { connections: number; ids: number[] } }).seen);
    await until("the newest event on the page", 30, async () => (await seen()).ids.at(-1) === last);
    const { connections, ids } = await seen();
    const since = ids.indexOf(first + 1);
    expect(since).toBeGreaterThanOrEqual(0);
    expect(connections).toBeGreaterThanOrEqual(5);
    expect(ids.slice(since)).toEqual(Array.from({ length: last - first }, (_, index) => first + 1 + index));
    console.log(`${last - first} events over ${connections} connections, each once and in order`);
  } finally {
    wire.close();
    await own.stop();
  }
});
