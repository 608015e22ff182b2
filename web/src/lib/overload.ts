// Which of the policy's limits a node has reached. The planner decides; this only says what it looks at.

import { known } from "./format";
import type { Node } from "./types";

export interface Limit { start: number; done: number }
export interface Limits { cpu?: Limit; memory?: Limit; pressure?: Limit; temperature_c?: Limit }

export function overloads(node: Node, limits: Limits): (keyof Limits)[] {
  const used = node.utilization;
  if (!used) return [];
  const over: (keyof Limits)[] = [];
  const test = (name: keyof Limits, value: number | null | undefined) => {
    const limit = limits[name];
    if (limit && known(value) && value >= limit.start) over.push(name);
  };
  test("cpu", used.cpu_sustained);
  test("memory", used.memory);
  test("pressure", used.pressure ? Math.max(used.pressure.memory, used.pressure.io) : null);
  test("temperature_c", used.temperature_c);
  return over;
}
