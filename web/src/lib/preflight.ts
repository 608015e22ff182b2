// What a move would need and cost, before it is asked for.

import { Failed, get } from "./api";

export interface Check { tone: "good" | "warning" | "bad"; words: string; remedy: string | null }
export interface Forecast {
  /** Null: the orchestrator offers no preflight. */
  possible: boolean | null;
  destination: string | null;
  downtimeMs: number | null;
  transferS: number | null;
  bytes: number | null;
  checks: Check[];
}

export async function ask(workload: string, destination: string | null): Promise<Forecast> {
  try {
    return await get<Forecast>("/v1/preflight", { workload, destination });
  } catch (error) {
    if (error instanceof Failed && (error.status === 404 || error.status === 405) && error.kind.startsWith("urn:fogshift:problem:unknown-")) {
      return { possible: null, destination, downtimeMs: null, transferS: null, bytes: null, checks: [] };
    }
    throw error;
  }
}
