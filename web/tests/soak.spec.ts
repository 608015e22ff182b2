// Half an hour of a thousand nodes' events: the page's memory stays flat. Run by make test-full; the figures are kept.

import { expect, test } from "@playwright/test";
import { keep, start } from "./simulated.ts";
import { signIn } from "./steps.ts";

const NODES = Number(process.env["FOG_SCALE_NODES"] ?? 1000);
const MINUTES = Number(process.env["FOG_SOAK_MINUTES"] ?? 30);

test(`memory stays flat over ${MINUTES} minutes of ${NODES} nodes`, async ({ page }) => {
  const cluster = await start({ nodes: { A: 0.3 }, workloads: { looper: "A" }, more: ["--fleet", String(NODES - 1), "--interval", "4"] });
  try {
    await signIn(page, cluster.url, cluster.token);
    await expect(page.locator(".status")).toContainText(`${NODES}/${NODES} nodes active`, { timeout: 170_000 });
    const debug = await page.context().newCDPSession(page);
    const heap = async () => {
      await debug.send("HeapProfiler.collectGarbage");
      const { usedSize } = await debug.send("Runtime.getHeapUsage");
      return usedSize / 1024 / 1024;
    };
    const points: { minute: number; heap_mib: number }[] = [];
    const began = Date.now();
    for (let minute = 0; minute <= MINUTES; minute += 1) {
      await page.waitForTimeout(Math.max(0, began + minute * 60_000 - Date.now())); // a measurement's clock, not a wait for something
      points.push({ minute, heap_mib: Number((await heap()).toFixed(2)) });
    }
    keep("memory", { nodes: NODES, minutes: MINUTES, points });
    const third = Math.ceil(points.length / 3);
    const mean = (list: typeof points) => list.reduce((sum, one) => sum + one.heap_mib, 0) / list.length;
    // After its first third it has all it keeps; from there on it may not grow by more than a tenth.
    expect(mean(points.slice(-third))).toBeLessThan(mean(points.slice(third, 2 * third)) * 1.1);
  } finally {
    await cluster.stop();
  }
});
