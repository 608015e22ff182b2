// What a person does again and again.

import { expect, type Page } from "@playwright/test";

export async function signIn(page: Page, url: string, token: string): Promise<void> {
  await page.goto(url);
  await page.getByLabel("Access token").fill(token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(page.locator('.connection[data-state="live"]')).toBeVisible();
}

/** Goes to a page by its fragment and waits until it shows something of its own. */
export async function visit(page: Page, fragment: string, shows: string): Promise<void> {
  await page.evaluate((hash) => { location.hash = hash; }, fragment);
  const name = fragment.replace(/^#\//, "").split("/")[0] || "fog";
  await expect(page.locator(`main[data-page="${name}"]`)).toBeVisible();
  await expect(page.locator(`main ${shows}`).first()).toBeAttached();
}

export async function middle(page: Page, selector: string): Promise<{ x: number; y: number }> {
  const found = await page.locator(selector).boundingBox();
  if (!found) throw new Error(`${selector} is nowhere on the screen`);
  return { x: found.x + found.width / 2, y: found.y + found.height / 2 };
}

/** Carries a container onto a node, as a hand does: in steps. */
export async function drag(page: Page, workload: string, node: string): Promise<void> {
  await expect(page.locator(`[data-workload="${workload}"]`)).toBeAttached();
  const from = await middle(page, `[data-workload="${workload}"]`);
  const to = await middle(page, `[data-node="${node}"]`);
  await page.mouse.move(from.x, from.y);
  await page.mouse.down();
  await page.mouse.move((from.x + to.x) / 2, (from.y + to.y) / 2, { steps: 6 });
  await page.mouse.move(to.x, to.y, { steps: 6 });
  await page.mouse.up();
}
