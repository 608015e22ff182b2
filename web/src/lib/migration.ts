// What a migration's record says about time: spans to draw, rates, what is left.

import type { Migration, Phase } from "./types";

export const OVER: readonly Phase[] = ["done", "rolled-back", "failed"];
export const isOver = (migration: Pick<Migration, "phase">): boolean => OVER.includes(migration.phase);
/** The phases before the commit: only they can be cancelled. */
export const canCancel = (migration: Pick<Migration, "phase">): boolean =>
  ["inspecting", "reserving", "syncing", "copying", "moving"].includes(migration.phase);

export const STAGES = ["sync", "pre-copy", "freeze", "dump", "ship", "verify", "restore", "resume", "drain"] as const;
/** The stages in which the container stands still. */
export const FROZEN_STAGES = ["freeze", "dump", "ship", "verify", "restore", "resume"] as const;

export interface Span { phase: Phase; from: number; to: number; current: boolean }

/** Each phase with its beginning and end, in ms since the epoch; the last one ends now while it runs. */
export function spans(migration: Pick<Migration, "phases" | "phase" | "finished_at">, now: number): Span[] {
  const entries = migration.phases;
  const all = entries.map((entry, at): Span => {
    const from = Date.parse(entry.at);
    const next = entries[at + 1];
    const current = !next && !OVER.includes(entry.phase);
    return { phase: entry.phase, from, to: Math.max(from, next ? Date.parse(next.at) : current ? now : from), current };
  });
  return all.filter((span) => !OVER.includes(span.phase));
}

export function duration(migration: Pick<Migration, "created_at" | "finished_at" | "phases" | "phase">, now: number): number {
  const last = migration.phases.at(-1);
  const end = migration.finished_at ?? (last && OVER.includes(last.phase) ? last.at : null);
  return Math.max(0, (end ? Date.parse(end) : now) - Date.parse(migration.created_at));
}

/**
 * Where the freeze lay on the timeline. It ends when the destination said that it runs; its length is the measured
 * downtime, so its beginning follows. Without a downtime nothing is drawn: no end is invented.
 */
export function freeze(migration: Pick<Migration, "answered" | "downtime_ms" | "phases">): { from: number; to: number } | null {
  if (migration.downtime_ms === null || migration.downtime_ms === undefined) return null;
  const answered = migration.answered["resume"] ?? migration.phases.find((entry) => entry.phase === "discarding")?.at;
  if (!answered) return null;
  const to = Date.parse(answered);
  return { from: to - migration.downtime_ms, to };
}

/** Stages in the order in which they happen; unknown ones last. */
export function stages(migration: Pick<Migration, "stages_ms">): [string, number][] {
  const place = (name: string) => {
    const at = (STAGES as readonly string[]).indexOf(name);
    return at < 0 ? STAGES.length : at;
  };
  return Object.entries(migration.stages_ms).sort(([a], [b]) => place(a) - place(b));
}
