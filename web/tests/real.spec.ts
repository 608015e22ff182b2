// The dashboard with a real orchestrator and real hosts. `tests/e2e/tests/dashboard.rs` starts them, makes A as busy as in
// the demo, and gives this file their address. Each test builds on the one before: it is one session of one person.

import { execFileSync } from "node:child_process";
import { expect, type Page, test } from "@playwright/test";
import { until } from "./simulated.ts";
import { drag, signIn, visit } from "./steps.ts";

const need = (name: string): string => {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: this file is run by cargo test -p fog-e2e --test dashboard`);
  return value;
};
const lab = (...given: string[]): string => execFileSync(need("FOG_LAB"), given, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], timeout: 120_000 });
const on = (node: string, ...command: string[]): string => lab("exec", node, "--instance", need("FOG_LAB_INSTANCE"), "--", ...command);
const run = (node: string, name: string, script: string): string => on(node, "docker", "run", "--detach", "--name", name, "fog/busybox:1", "sh", "-c", script);
const numbers = (node: string, name: string): number[] => on(node, "docker", "logs", name).trim().split("\n").filter(Boolean).map(Number);
const ask = async <T>(path: string): Promise<T> => (await (await fetch(need("FOG_URL") + path, { headers: { authorization: `Bearer ${need("FOG_TOKEN")}` } })).json()) as T;

/** The container counts on `node`, without a gap or a repetition since it was started. */
async function counts(node: string, name: string): Promise<void> {
  const before = numbers(node, name).length;
  const list = await until(`${name} to count on ${node}`, 60, async () => {
    const now = numbers(node, name);
    return now.length >= before + 2 ? now : null;
  });
  list.forEach((number, index) => expect(number, `${name} counts`).toBe(index));
}

test.describe.configure({ mode: "serial" });
let page: Page;
// A page that throws is a failure wherever it happens; so is anything that the page's own policy forbids.
const faults: string[] = [];
test.beforeAll(async ({ browser }) => {
  page = await (await browser.newContext()).newPage();
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("console", (message) => { if (/Content Security Policy|Refused to/.test(message.text())) faults.push(message.text()); });
});
test.afterAll(async () => { await page?.context().close(); });
test.afterEach(() => { expect(faults).toEqual([]); });

test("a wrong token is refused, the right one signs in", async () => {
  await page.goto(need("FOG_URL"));
  await page.getByLabel("Access token").fill("not-the-token");
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(page.getByRole("alert")).toContainText("not valid");
  await signIn(page, need("FOG_URL"), need("FOG_TOKEN"));
  for (const node of ["A", "B", "C", "D"]) await expect(page.locator(`[data-node="${node}"]`)).toBeAttached();
});

test("the demo's migration is watched from overload to done", async () => {
  await expect(page.locator(".status .hot")).toContainText("1");
  run("A", "looper", need("LOOPER"));
  await page.getByRole("navigation").getByText("Migrations").click();
  const row = page.getByRole("link", { name: "looper" }).first();
  await expect(row).toBeVisible({ timeout: 120_000 });
  await row.click();
  await expect(page.getByTestId("phase")).toHaveText("Done", { timeout: 120_000 });
  await expect(page.getByTestId("reason")).toContainText("A has been at");
  await expect(page.getByTestId("reason")).toContainText("looper moves to C");
  await expect(page.getByTestId("downtime")).toContainText(/\d\s(ms|s)/);
  for (const node of ["B", "C", "D"]) await expect(page.locator(".card header", { hasText: node }).first()).toBeVisible();
  await counts("C", "looper");
  await expect(page.locator(".status .moving")).toHaveCount(0);
});

test("a container that is dragged onto a node runs there", async () => {
  await visit(page, "#/", '[data-workload="looper"][data-on="C"]');
  await drag(page, "looper", "B");
  const dialog = page.getByRole("dialog");
  await expect(dialog).toContainText("Move looper");
  await expect(dialog.getByLabel("To")).toHaveValue("B");
  await dialog.getByRole("button", { name: "Move to B" }).click();
  await expect(page.getByTestId("phase")).toHaveText("Done", { timeout: 120_000 });
  await counts("B", "looper");
  await visit(page, "#/", '[data-workload="looper"][data-on="B"]');
});

test("the same can be done with the keyboard alone", async () => {
  await page.getByRole("application").focus();
  await until("B to be selected with the arrow keys", 20, async () => {
    for (const arrow of ["ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"]) {
      await page.keyboard.press(arrow);
      if ((await page.locator("aside h2").textContent())?.trim() === "B") return true;
    }
    return false;
  });
  const move = page.getByRole("button", { name: "Move… looper" });
  await move.focus();
  await page.keyboard.press("Enter");
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("To").selectOption("C");
  const go = dialog.getByRole("button", { name: "Move to C" });
  await expect(go).toBeEnabled();
  await go.press("Enter");
  await expect(page.getByTestId("phase")).toHaveText("Done", { timeout: 120_000 });
  await counts("C", "looper");
});

test("a migration is cancelled and the source goes on", async () => {
  // 24 MiB of noise through D's 20 Mbit/s take about ten seconds.
  run("C", "heavy", `noise=$(head -c 18874368 /dev/urandom | base64); ${need("LOOPER")}`);
  await until("heavy to count", 60, async () => numbers("C", "heavy").length > 1);
  await visit(page, "#/workloads/heavy", "h1");
  await page.getByRole("button", { name: "Move…", exact: true }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("To").selectOption("D");
  await dialog.getByRole("button", { name: "Move to D" }).click();
  await expect(page.getByTestId("phase")).toHaveText("Move", { timeout: 60_000 });
  await page.getByRole("button", { name: "Cancel migration" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Cancel migration" }).click();
  await expect(page.getByTestId("phase")).toHaveText("Rolled back", { timeout: 120_000 });
  await counts("C", "heavy");
  on("C", "docker", "rm", "--force", "heavy");
});

test("a wrong policy is refused at its line, a right one is in force", async () => {
  await visit(page, "#/policy", ".cm-content");
  const { version } = await ask<{ version: number }>("/v1/policy");
  await page.locator(".cm-content").click();
  await page.keyboard.press("Control+Home");
  await page.keyboard.insertText('autonomy = "sometimes"\n');
  await expect(page.locator(".errors")).toContainText("Line 1");
  await expect(page.getByRole("button", { name: "Put into force" })).toBeDisabled();
  await page.keyboard.press("Control+a");
  await page.keyboard.type("auton");
  await expect(page.locator(".cm-tooltip-autocomplete")).toContainText("autonomy");
  await page.keyboard.press("Escape");
  await page.keyboard.press("Control+a");
  await page.keyboard.insertText('autonomy = "confirm"\n[cooldown]\nmoved_s = 0.0\nreturn_s = 0.0\n');
  await expect(page.getByTestId("check")).toContainText("valid");
  await page.getByRole("button", { name: "Dry run" }).click();
  await page.getByRole("button", { name: "Put into force" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Put into force" }).click();
  const now = await until("the new version", 30, async () => {
    const policy = await ask<{ version: number; policy: { autonomy: string } }>("/v1/policy");
    return policy.version > version ? policy : null;
  });
  expect(now.policy.autonomy).toBe("confirm");
  await expect(page.getByTestId("version")).toContainText(String(now.version));
});

test("a recommendation is approved and carried out", async () => {
  // The policy says confirm now, and A is as busy as before: a container there is proposed for a move.
  run("A", "second", need("LOOPER"));
  await visit(page, "#/decisions", "h1");
  const approve = page.getByRole("button", { name: "Approve second" });
  await expect(approve).toBeVisible({ timeout: 120_000 });
  await approve.click();
  const there = await until("second to be moved", 120, async () => {
    const workload = await ask<{ node: string; migration?: string | null }>("/v1/workloads/second");
    return workload.node !== "A" && !workload.migration ? workload : null;
  });
  await counts(there.node, "second");
});

test("a node is drained", async () => {
  const { node } = await ask<{ node: string }>("/v1/workloads/second");
  await visit(page, `#/nodes/${node}`, "h1");
  await page.getByRole("button", { name: "Drain", exact: true }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Drain" }).click();
  await expect(page.getByTestId("order")).toHaveText("draining");
  // Under this policy a drain, too, may be proposed first.
  await visit(page, "#/decisions", "h1");
  await until("the node to be empty", 150, async () => {
    const approve = page.getByRole("button", { name: /^Approve/ }).first();
    if (await approve.isVisible()) await approve.click({ timeout: 2000 }).catch(() => { /* it was answered meanwhile */ });
    return (await ask<{ items: unknown[] }>(`/v1/workloads?node=${node}`)).items.length === 0;
  });
  await visit(page, `#/nodes/${node}`, "h1");
  await expect(page.getByText("No containers")).toBeVisible();
  await page.getByRole("button", { name: "Use again" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Use again" }).click();
  await expect(page.getByTestId("order")).toHaveCount(0);
});

/** Begins a migration with a strategy of its own, which the dialog leaves to the orchestrator, and shows its page. */
async function begin(workload: string, destination: string, strategy: string): Promise<string> {
  const answer = await fetch(`${need("FOG_URL")}/v1/migrations`, {
    method: "POST", headers: { authorization: `Bearer ${need("FOG_TOKEN")}`, "content-type": "application/json" }, body: JSON.stringify({ workload, destination, strategy }),
  });
  const migration = (await answer.json()) as { id: string };
  expect(answer.status, JSON.stringify(migration)).toBe(202);
  await visit(page, `#/migrations/${migration.id}`, "h1");
  return migration.id;
}

test("a pre-copy shows its rounds with their bytes, and how fast the container writes", async () => {
  run("C", "writer", `noise=$(head -c 12582912 /dev/urandom | base64); ${need("LOOPER")}`);
  await until("writer to count", 60, async () => numbers("C", "writer").length > 1);
  await until("the orchestrator to know it", 60, async () => (await ask<{ node?: string }>("/v1/workloads/writer")).node === "C");
  const id = await begin("writer", "D", "pre-copy");
  const rows = page.getByTestId("rounds").locator("tbody tr");
  await expect(rows.first()).toBeVisible({ timeout: 120_000 });
  await expect(rows.first()).toContainText(/MiB.*MiB.*s.*\/s/);
  await expect(page.getByTestId("phase")).toHaveText("Done", { timeout: 120_000 });
  const { memory } = await ask<{ memory: { rounds: { content_bytes: number }[]; dirty_bytes_per_s: number | null } }>(`/v1/migrations/${id}`);
  await expect(rows).toHaveCount(memory.rounds.length);
  expect(memory.rounds.length).toBeGreaterThan(1);
  expect(memory.rounds[0]?.content_bytes).toBeGreaterThan(12_582_912);
  expect(memory.dirty_bytes_per_s).not.toBeNull();
  await expect(page.getByTestId("dirty")).toContainText(/\/s/);
  await page.screenshot({ path: "screenshots/real-rounds.png", fullPage: true });
  await counts("D", "writer");
  on("D", "docker", "rm", "--force", "writer");
});

test("a lost orchestrator is shown, and nothing is missed when it is back", async () => {
  await visit(page, "#/", '[data-node="A"]');
  lab("orchestrator", "kill", "--instance", need("FOG_LAB_INSTANCE"));
  await expect(page.locator('.connection[data-state="reconnecting"]')).toBeVisible();
  run("D", "meanwhile", need("LOOPER"));
  lab("orchestrator", "start", "--instance", need("FOG_LAB_INSTANCE"));
  await expect(page.locator('.connection[data-state="live"]')).toBeVisible({ timeout: 60_000 });
  await expect(page.locator('[data-workload="meanwhile"][data-on="D"]')).toBeAttached({ timeout: 60_000 });
});
