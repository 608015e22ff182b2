// What a move would need and cost, before it is asked for. The planner's dry run gives the prediction and its own refusals;
// the preflight has both nodes look.

import { Failed, get, post } from "./api";
import { session } from "./session.svelte";
import type { Decision, Preflight } from "./types";

export interface Check { tone: "good" | "warning" | "bad"; words: string; node: string | null }
export interface Forecast {
  possible: boolean;
  destination: string | null;
  downtimeMs: number | null;
  bytes: number | null;
  reason: string | null;
  checks: Check[];
}

export async function ask(workload: string, destination: string | null): Promise<Forecast> {
  const planned = session.canOperate ? await plan(workload, destination) : null;
  const to = planned instanceof Failed ? destination : (planned?.destination ?? destination);
  const looked = to ? await look(workload, to) : null;
  const checks: Check[] = (looked?.findings ?? []).map((one) => ({ tone: one.weight === "blocker" ? "bad" : "warning", words: one.message, node: one.node ?? null }));
  if (planned instanceof Failed && !checks.some((one) => one.words === planned.message)) checks.unshift({ tone: "bad", words: planned.message, node: null });
  const connections = looked?.connections;
  if (connections && connections.open > 0) checks.push({ tone: connections.kept ? "good" : "warning", words: connections.reason, node: null });
  const decision = planned instanceof Failed ? null : planned;
  return {
    possible: !(planned instanceof Failed) && looked?.possible !== false,
    destination: to,
    downtimeMs: decision?.expected_downtime_ms ?? null,
    bytes: decision?.expected_bytes ?? null,
    reason: decision?.reason ?? null,
    checks,
  };
}

/** A refusal is an answer; anything else is a failure. */
async function plan(workload: string, destination: string | null): Promise<Decision | Failed> {
  try {
    return await post<Decision>("/v1/migrations?dry_run=true", { workload, ...(destination ? { destination } : {}) });
  } catch (error) {
    if (error instanceof Failed && (error.status === 409 || error.status === 422)) return error;
    throw error;
  }
}

/** Null where the planner's refusal says all: the workload or the node is gone. */
async function look(workload: string, to: string): Promise<Preflight | null> {
  try {
    return await get<Preflight>("/v1/preflight", { workload, to });
  } catch (error) {
    if (error instanceof Failed && (error.status === 404 || error.status === 409 || error.status === 422)) return null;
    throw error;
  }
}
