import { defineConfig } from "@playwright/test";

// Debian's Chromium: nothing is downloaded. The flags keep it from asking anybody else anything.
export default defineConfig({
  testDir: "tests",
  outputDir: "test-results",
  workers: 1,
  fullyParallel: false,
  forbidOnly: true,
  timeout: 180_000,
  expect: { timeout: 30_000 },
  reporter: [["list"]],
  use: {
    viewport: { width: 1360, height: 860 },
    actionTimeout: 30_000,
    trace: "off",
    launchOptions: {
      executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
      args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
    },
  },
  projects: [
    { name: "pages", testMatch: "pages.spec.ts" },
    { name: "scale", testMatch: "scale.spec.ts" },
    { name: "real", testMatch: "real.spec.ts", timeout: 300_000 },
    { name: "soak", testMatch: "soak.spec.ts", timeout: 3_000_000 },
  ],
});
