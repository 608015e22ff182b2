import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

// Compressed once, here: the orchestrator only picks the encoding that the browser takes.
function compressed(folder: string): Plugin {
  return {
    name: "compressed",
    apply: "build",
    closeBundle() {
      for (const entry of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
        if (!/\.(html|js|css|svg)$/.test(entry)) continue;
        const path = join(folder, entry);
        const plain = readFileSync(path);
        writeFileSync(`${path}.br`, brotliCompressSync(plain, { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } }));
        writeFileSync(`${path}.gz`, gzipSync(plain, { level: 9 }));
      }
    },
  };
}

const orchestrator = process.env.FOG_URL ?? "http://127.0.0.1:7700";

export default defineConfig({
  plugins: [svelte(), compressed("dist")],
  build: {
    target: "es2022",
    assetsInlineLimit: 0, // the page's policy allows no data: URLs
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    rollupOptions: { output: { assetFileNames: "assets/[name]-[hash][extname]" } },
  },
  server: { proxy: { "/v1": orchestrator, "/openapi.json": orchestrator } },
  test: { include: ["src/**/*.test.ts"], environment: "node" },
});
