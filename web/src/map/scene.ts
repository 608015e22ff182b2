// The map's picture: what stands where, how it is drawn, and what lies under a pointer. Knows the canvas, not the page.

import { shortened } from "../lib/format";
import type { Migration, Node, Workload } from "../lib/types";
import { css, inkOn, loadColour } from "./colour";
import { arrange, type Arrangement, CARD_WIDTH, type Layout, lines } from "./layout";

export interface Palette {
  dark: boolean; page: string; surface: string; sunken: string; line: string; lineStrong: string; ink: string; quiet: string;
  accent: string; accentInk: string; accentSoft: string; good: string; warning: string; bad: string; frost: string; sans: string;
}
export interface View { x: number; y: number; k: number }
export interface Input {
  nodes: readonly Node[];
  byNode: ReadonlyMap<string, Workload[]>;
  running: readonly Migration[];
  hot: ReadonlySet<string>;
  limit: number;
  found: ReadonlySet<string> | null;
  selected: string | null;
}
export type Under = { kind: "node"; node: string } | { kind: "workload"; node: string; workload: string } | null;
interface Rect { x: number; y: number; w: number; h: number }
interface Item { node: Node; x: number; y: number; fromX: number; fromY: number; toX: number; toY: number; began: number }
interface Dot { at: number; wanted: number }

const CHIP = 21;
const HEAD = 64;
const SHOWN = 5;
const EASE_MS = 650;
const ZOOM = [0.04, 6] as const;

/** How far along its way a migration is drawn: by phase, and by bytes where they are known. */
export function along(migration: Migration): number {
  const base: Record<string, number> = { inspecting: 0.04, reserving: 0.1, syncing: 0.16, copying: 0.2, moving: 0.25, committing: 0.92, resuming: 0.95, discarding: 1, "rolling-back": 0 };
  const from = base[migration.phase] ?? 1;
  if (migration.phase !== "moving") return from;
  const parts: Record<string, readonly [number, number]> = { sync: [0.2, 0.5], copy: [0.2, 0.5], freeze: [0.5, 0.52], dump: [0.52, 0.58], ship: [0.55, 0.8], verify: [0.8, 0.84], restore: [0.84, 0.9], resume: [0.9, 0.92] };
  const part = migration.progress ? parts[migration.progress.stage] : undefined;
  if (!part || !migration.progress) return from;
  const total = migration.progress.bytes_total ?? 0;
  return part[0] + (part[1] - part[0]) * (total > 0 ? Math.min(1, migration.progress.bytes / total) : 0);
}

export const isFrozen = (migration: Migration): boolean =>
  migration.phase === "committing" || migration.phase === "resuming" || ["freeze", "dump", "ship", "verify", "restore", "resume"].includes(migration.progress?.stage ?? "");

export class Scene {
  layout: Layout = { spots: new Map(), groups: [], radius: 20, cards: true };
  view: View = { x: 0, y: 0, k: 1 };
  drag: { workload: string; from: string; x: number; y: number; over: string | null } | null = null;
  hover: Under = null;
  private items = new Map<string, Item>();
  private chips: { rect: Rect; node: string; workload: string }[] = [];
  private input: Input = { nodes: [], byNode: new Map(), running: [], hot: new Set(), limit: 0.8, found: null, selected: null };
  private between: { a: string; b: string; rtt: number | null }[] = [];
  private dots = new Map<string, Dot>();
  private pulses: { x: number; y: number; began: number; good: boolean }[] = [];
  private shape = "";
  private widths = new Map<string, number>();

  /** New data. The nodes only move when there are others, or another arrangement is asked for. */
  update(input: Input, arrangement: Arrangement, tall: boolean, now: number): boolean {
    const before = this.input.running;
    this.input = input;
    const shape = `${arrangement} ${tall} ${input.nodes.map((node) => node.name).sort().join("\n")}`;
    const moved = shape !== this.shape;
    if (moved) {
      this.shape = shape;
      this.layout = arrange(input.nodes, arrangement, tall);
      this.between = lines(input.nodes, input.nodes.length <= 12);
    } else if (this.layout.cards) {
      this.between = lines(input.nodes, input.nodes.length <= 12);
    }
    const items = new Map<string, Item>();
    for (const node of input.nodes) {
      const spot = this.layout.spots.get(node.name) ?? { x: 0, y: 0 };
      const old = this.items.get(node.name);
      if (!old) items.set(node.name, { node, x: spot.x, y: spot.y, fromX: spot.x, fromY: spot.y, toX: spot.x, toY: spot.y, began: -Infinity });
      else if (moved && (old.toX !== spot.x || old.toY !== spot.y)) items.set(node.name, { node, x: old.x, y: old.y, fromX: old.x, fromY: old.y, toX: spot.x, toY: spot.y, began: now });
      else { old.node = node; items.set(node.name, old); }
    }
    this.items = items;
    for (const migration of input.running) {
      const dot = this.dots.get(migration.id);
      if (dot) dot.wanted = along(migration);
      else this.dots.set(migration.id, { at: 0, wanted: along(migration) });
    }
    for (const old of before) {
      if (input.running.some((one) => one.id === old.id)) continue;
      this.dots.delete(old.id);
      const arrived = (input.byNode.get(old.destination) ?? []).some((workload) => workload.name === old.workload);
      const item = items.get(arrived ? old.destination : old.source);
      if (item) this.pulses.push({ x: item.x, y: item.y, began: now, good: arrived });
    }
    return moved;
  }

  /** Whether the next frame differs from this one. */
  get moving(): boolean {
    return this.input.running.length > 0 || this.pulses.length > 0 || this.drag !== null || [...this.items.values()].some((item) => item.began > 0);
  }

  size(item: { node: Node }): { w: number; h: number } {
    if (!this.layout.cards) return { w: this.layout.radius * 2, h: this.layout.radius * 2 };
    const containers = this.input.byNode.get(item.node.name)?.length ?? 0;
    const rows = Math.min(SHOWN, containers) + (containers > SHOWN ? 0.8 : 0);
    return { w: CARD_WIDTH, h: HEAD + (rows ? rows * CHIP + 8 : 6) };
  }

  fit(width: number, height: number): void {
    if (!this.items.size) return;
    let [left, right, top, bottom] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const item of this.items.values()) {
      const { w, h } = this.size(item);
      left = Math.min(left, item.toX - w / 2);
      right = Math.max(right, item.toX + w / 2);
      top = Math.min(top, item.toY - h / 2);
      bottom = Math.max(bottom, item.toY + h / 2);
    }
    for (const group of this.layout.groups) {
      left = Math.min(left, group.x - group.r);
      right = Math.max(right, group.x + group.r);
      top = Math.min(top, group.y - group.r - 26);
      bottom = Math.max(bottom, group.y + group.r);
    }
    const margin = Math.min(48, width * 0.04);
    const foot = 34; // the legend and the buttons stand there
    const k = Math.max(ZOOM[0], Math.min((width - 2 * margin) / (right - left), (height - 2 * margin - foot) / (bottom - top), this.layout.cards ? 1.25 : 2.4));
    this.view = { k, x: width / 2 - ((left + right) / 2) * k, y: (height - foot) / 2 - ((top + bottom) / 2) * k };
  }

  zoom(factor: number, x: number, y: number): void {
    const k = Math.min(ZOOM[1], Math.max(ZOOM[0], this.view.k * factor));
    const share = k / this.view.k;
    this.view = { k, x: x - (x - this.view.x) * share, y: y - (y - this.view.y) * share };
  }

  centre(name: string, width: number, height: number): void {
    const item = this.items.get(name);
    if (!item) return;
    const k = Math.max(this.view.k, this.layout.cards ? 0.8 : 1.6);
    this.view = { k, x: width / 2 - item.toX * k, y: height / 2 - item.toY * k };
  }

  toWorld(x: number, y: number): { x: number; y: number } {
    return { x: (x - this.view.x) / this.view.k, y: (y - this.view.y) / this.view.k };
  }

  under(screenX: number, screenY: number, nodesOnly = false): Under {
    const { x, y } = this.toWorld(screenX, screenY);
    if (!nodesOnly) {
      for (const { rect, node, workload } of this.chips) {
        if (x >= rect.x && x <= rect.x + rect.w && y >= rect.y && y <= rect.y + rect.h) return { kind: "workload", node, workload };
      }
    }
    const slack = this.layout.cards ? 0 : Math.max(0, 12 / this.view.k - this.layout.radius);
    for (const item of this.items.values()) {
      const { w, h } = this.size(item);
      if (Math.abs(x - item.x) <= w / 2 + slack && Math.abs(y - item.y) <= h / 2 + slack) return { kind: "node", node: item.node.name };
    }
    return null;
  }

  /** Where things are on the screen, for whoever does not see a canvas. */
  places(): { nodes: { name: string; rect: Rect }[]; workloads: { name: string; node: string; rect: Rect }[] } {
    const { k } = this.view;
    const onScreen = (rect: Rect): Rect => ({ x: rect.x * k + this.view.x, y: rect.y * k + this.view.y, w: rect.w * k, h: rect.h * k });
    return {
      nodes: [...this.items.values()].map((item) => {
        const { w, h } = this.size(item);
        return { name: item.node.name, rect: onScreen({ x: item.toX - w / 2, y: item.toY - h / 2, w, h }) };
      }),
      workloads: this.chips.map(({ rect, node, workload }) => ({ name: workload, node, rect: onScreen(rect) })),
    };
  }

  /** The nearest node in a direction: what an arrow key goes to. */
  neighbour(name: string | null, dx: number, dy: number): string | null {
    const from = name ? this.items.get(name) : undefined;
    if (!from) return [...this.items.values()].sort((a, b) => a.y - b.y || a.x - b.x)[0]?.node.name ?? null;
    let best: { name: string; cost: number } | null = null;
    for (const item of this.items.values()) {
      const [x, y] = [item.toX - from.toX, item.toY - from.toY];
      const ahead = x * dx + y * dy;
      if (item === from || ahead <= 1) continue;
      const aside = Math.abs(x * dy - y * dx);
      const cost = ahead + 2 * aside;
      if (!best || cost < best.cost) best = { name: item.node.name, cost };
    }
    return best?.name ?? null;
  }

  draw(ctx: CanvasRenderingContext2D, width: number, height: number, ratio: number, colours: Palette, now: number, still: boolean): void {
    for (const item of this.items.values()) {
      if (item.began === -Infinity) continue;
      const share = still ? 1 : Math.min(1, (now - item.began) / EASE_MS);
      const eased = 1 - (1 - share) ** 3;
      item.x = item.fromX + (item.toX - item.fromX) * eased;
      item.y = item.fromY + (item.toY - item.fromY) * eased;
      if (share === 1) item.began = -Infinity;
    }
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.clearRect(0, 0, width, height);
    ctx.setTransform(ratio * this.view.k, 0, 0, ratio * this.view.k, ratio * this.view.x, ratio * this.view.y);
    ctx.textBaseline = "middle";
    this.chips = [];
    this.drawGroups(ctx, colours);
    this.drawLines(ctx, colours);
    const { k } = this.view;
    const [left, top] = [-this.view.x / k, -this.view.y / k];
    const [right, bottom] = [left + width / k, top + height / k];
    for (const item of this.items.values()) {
      const { w, h } = this.size(item);
      if (item.x + w < left || item.x - w > right || item.y + h < top || item.y - h > bottom) continue;
      if (this.layout.cards) this.drawCard(ctx, item, colours);
      else this.drawDisc(ctx, item, colours);
    }
    this.drawMigrations(ctx, colours, now, still);
    this.drawPulses(ctx, colours, now, still);
    this.drawDrag(ctx, colours);
  }

  private font(ctx: CanvasRenderingContext2D, size: number, weight: number, colours: Palette): void {
    ctx.font = `${weight} ${size}px ${colours.sans}`;
  }

  /** Cuts a name so that it fits; what was measured is kept, because measuring is what drawing text costs. */
  private fitted(ctx: CanvasRenderingContext2D, name: string, room: number): string {
    const width = (words: string): number => {
      const key = `${ctx.font} ${words}`;
      let known = this.widths.get(key);
      if (known === undefined) {
        if (this.widths.size > 20_000) this.widths.clear();
        known = ctx.measureText(words).width;
        this.widths.set(key, known);
      }
      return known;
    };
    if (width(name) <= room) return name;
    for (let length = Math.min(40, name.length); length > 2; length -= 1) {
      const short = shortened(name, length);
      if (width(short) <= room) return short;
    }
    return "…";
  }

  private faded(name: string): boolean {
    if (this.drag) return false;
    return this.input.found !== null && !this.input.found.has(name);
  }

  private drawGroups(ctx: CanvasRenderingContext2D, colours: Palette): void {
    for (const group of this.layout.groups) {
      ctx.beginPath();
      ctx.arc(group.x, group.y, group.r, 0, 2 * Math.PI);
      ctx.fillStyle = colours.surface;
      ctx.fill();
      ctx.lineWidth = 1 / this.view.k;
      ctx.strokeStyle = colours.line;
      ctx.stroke();
      this.font(ctx, 13 / this.view.k, 600, colours);
      ctx.fillStyle = colours.quiet;
      ctx.textAlign = "center";
      ctx.fillText(this.fitted(ctx, group.name || "–", group.r * 1.8), group.x, group.y - group.r - 10 / this.view.k);
    }
  }

  private drawLines(ctx: CanvasRenderingContext2D, colours: Palette): void {
    const about = this.hover?.node ?? this.input.selected;
    const label = this.input.nodes.length <= 6;
    for (const line of this.between) {
      const [a, b] = [this.items.get(line.a), this.items.get(line.b)];
      if (!a || !b) continue;
      const concerns = about === line.a || about === line.b;
      ctx.beginPath();
      ctx.moveTo(a.x, a.y);
      ctx.lineTo(b.x, b.y);
      ctx.lineWidth = (concerns ? 1.8 : 1) / Math.min(1.4, this.view.k);
      ctx.strokeStyle = concerns ? colours.accent : colours.lineStrong;
      ctx.globalAlpha = concerns ? 0.9 : this.layout.cards ? 0.65 : 0.35;
      if (line.rtt === null) ctx.setLineDash([4, 5]);
      ctx.stroke();
      ctx.setLineDash([]);
      ctx.globalAlpha = 1;
      if (line.rtt === null || !this.layout.cards || !(label || concerns)) continue;
      const words = line.rtt < 9.95 ? `${line.rtt.toFixed(1)} ms` : `${Math.round(line.rtt)} ms`;
      this.font(ctx, 11.5, 500, colours);
      const w = ctx.measureText(words).width + 10;
      const [x, y] = [(a.x + b.x) / 2, (a.y + b.y) / 2];
      ctx.fillStyle = colours.page;
      ctx.fillRect(x - w / 2, y - 9, w, 18);
      ctx.fillStyle = concerns ? colours.accent : colours.quiet;
      ctx.textAlign = "center";
      ctx.fillText(words, x, y + 0.5);
    }
  }

  private drawCard(ctx: CanvasRenderingContext2D, item: Item, colours: Palette): void {
    const { node } = item;
    const { w, h } = this.size(item);
    const [x, y] = [item.x - w / 2, item.y - h / 2];
    const used = node.utilization;
    const offline = node.availability === "offline";
    const hot = this.input.hot.has(node.name);
    const chosen = this.input.selected === node.name;
    const target = this.drag && this.drag.over === node.name && this.drag.from !== node.name;
    ctx.globalAlpha = this.faded(node.name) ? 0.28 : 1;
    ctx.beginPath();
    ctx.roundRect(x, y, w, h, 8);
    ctx.fillStyle = colours.surface;
    if (!colours.dark) { ctx.shadowColor = "rgb(20 32 42 / 13%)"; ctx.shadowBlur = 14 * this.view.k; ctx.shadowOffsetY = 3 * this.view.k; }
    ctx.fill();
    ctx.shadowColor = "transparent";
    ctx.shadowBlur = 0;
    ctx.shadowOffsetY = 0;
    ctx.save();
    ctx.clip();
    const load = used?.cpu_sustained ?? 0;
    ctx.fillStyle = offline || !used ? colours.sunken : css(loadColour(load, this.input.limit, colours.dark));
    ctx.fillRect(x, y, 6, h);
    ctx.restore();
    ctx.beginPath();
    ctx.roundRect(x, y, w, h, 8);
    ctx.lineWidth = target || chosen ? 2.2 : 1;
    ctx.strokeStyle = target || chosen ? colours.accent : hot ? colours.bad : colours.line;
    if (offline) ctx.setLineDash([5, 4]);
    ctx.stroke();
    ctx.setLineDash([]);

    ctx.textAlign = "left";
    this.font(ctx, 15, 640, colours);
    ctx.fillStyle = offline ? colours.quiet : colours.ink;
    ctx.fillText(this.fitted(ctx, node.name, used ? 82 : 140), x + 17, y + 19);
    const state = offline ? "offline" : node.draining ? "draining" : node.cordoned ? "cordoned" : node.availability === "suspect" ? "suspect" : "";
    this.font(ctx, 11.5, state ? 600 : 450, colours);
    ctx.fillStyle = state ? (offline ? colours.bad : colours.warning) : colours.quiet;
    ctx.fillText(this.fitted(ctx, state || node.facts.labels["site"] || node.facts.labels["tier"] || "", 62), x + 17, y + 38);
    if (used && !offline) {
      ctx.textAlign = "right";
      this.font(ctx, 22, 660, colours);
      ctx.fillStyle = hot ? colours.bad : colours.ink;
      ctx.fillText(`${Math.round(load * 100)}`, x + w - 25, y + 22);
      this.font(ctx, 12, 500, colours);
      ctx.fillStyle = colours.quiet;
      ctx.fillText("%", x + w - 12, y + 24);
      this.font(ctx, 11.5, 450, colours);
      ctx.fillText(`mem ${Math.round(used.memory * 100)} %`, x + w - 12, y + 40);
      this.bar(ctx, x + 17, y + 52, w - 29, load, this.input.limit, css(loadColour(load, this.input.limit, colours.dark)), colours);
    }
    const containers = this.input.byNode.get(node.name) ?? [];
    containers.slice(0, SHOWN).forEach((workload, index) => this.drawChip(ctx, workload, x + 14, y + HEAD + index * CHIP, w - 24, CHIP - 3, colours));
    if (containers.length > SHOWN) {
      this.font(ctx, 11.5, 450, colours);
      ctx.textAlign = "left";
      ctx.fillStyle = colours.quiet;
      ctx.fillText(`+ ${containers.length - SHOWN}`, x + 20, y + HEAD + SHOWN * CHIP + 7);
    }
    ctx.globalAlpha = 1;
  }

  private bar(ctx: CanvasRenderingContext2D, x: number, y: number, w: number, share: number, mark: number, colour: string, colours: Palette): void {
    ctx.fillStyle = colours.sunken;
    ctx.fillRect(x, y - 2, w, 4);
    ctx.fillStyle = colour;
    ctx.fillRect(x, y - 2, w * Math.min(1, share), 4);
    ctx.fillStyle = colours.ink;
    ctx.globalAlpha *= 0.6;
    ctx.fillRect(x + w * mark - 0.75, y - 4, 1.5, 8);
    ctx.globalAlpha /= 0.6;
  }

  private drawChip(ctx: CanvasRenderingContext2D, workload: Workload, x: number, y: number, w: number, h: number, colours: Palette): void {
    const moving = this.input.running.some((migration) => migration.workload === workload.name);
    const held = this.drag?.workload === workload.name;
    const pointed = this.hover?.kind === "workload" && this.hover.workload === workload.name;
    this.chips.push({ rect: { x, y, w, h }, node: workload.node, workload: workload.name });
    const before = ctx.globalAlpha;
    if (held) ctx.globalAlpha = before * 0.4;
    ctx.beginPath();
    ctx.roundRect(x, y, w, h, h * 0.22);
    ctx.fillStyle = moving ? colours.accentSoft : colours.sunken;
    ctx.fill();
    if (pointed && !this.drag) {
      ctx.lineWidth = h / 15;
      ctx.strokeStyle = colours.accent;
      ctx.stroke();
    }
    const unit = h / 18;
    ctx.beginPath();
    ctx.arc(x + 9 * unit, y + h / 2, 3 * unit, 0, 2 * Math.PI);
    ctx.fillStyle = moving ? colours.accent : workload.state === "running" ? colours.good : colours.warning;
    ctx.fill();
    ctx.textAlign = "left";
    this.font(ctx, 12 * unit, 520, colours);
    ctx.fillStyle = moving ? colours.accent : colours.ink;
    ctx.fillText(this.fitted(ctx, workload.name, w - 22 * unit), x + 17 * unit, y + h / 2 + 0.5 * unit);
    ctx.globalAlpha = before;
  }

  private drawDisc(ctx: CanvasRenderingContext2D, item: Item, colours: Palette): void {
    const { node, x, y } = item;
    const r = this.layout.radius;
    const offline = node.availability === "offline";
    const load = node.utilization?.cpu_sustained ?? 0;
    const colour = loadColour(load, this.input.limit, colours.dark);
    const chosen = this.input.selected === node.name || (this.drag?.over === node.name && this.drag.from !== node.name);
    const onScreen = r * this.view.k;
    ctx.globalAlpha = this.faded(node.name) ? 0.16 : 1;
    const near = onScreen > 44;
    if (near) {
      ctx.beginPath();
      ctx.roundRect(x - r, y - r, 2 * r, 2 * r, r * 0.14);
      ctx.fillStyle = colours.surface;
    } else {
      ctx.beginPath();
      ctx.arc(x, y, r * 0.92, 0, 2 * Math.PI);
      ctx.fillStyle = offline ? colours.sunken : css(colour);
    }
    ctx.fill();
    const hot = this.input.hot.has(node.name);
    if (chosen || hot || offline || near) {
      ctx.lineWidth = chosen ? Math.max(2.5 / this.view.k, r * 0.05) : Math.max(1.2 / this.view.k, r * 0.03);
      ctx.strokeStyle = chosen ? colours.accent : hot ? colours.bad : colours.lineStrong;
      if (offline) ctx.setLineDash([r / 5, r / 6]);
      ctx.stroke();
      ctx.setLineDash([]);
    }
    if (near) {
      this.drawNear(ctx, item, colours, css(colour));
    } else {
      ctx.textAlign = "center";
      if (onScreen > 11 && !offline) {
        this.font(ctx, r * 0.62, 620, colours);
        ctx.fillStyle = inkOn(colour);
        ctx.fillText(`${Math.round(load * 100)}`, x, y + r * 0.04);
      }
      if (onScreen > 19) {
        this.font(ctx, Math.min(r * 0.44, 12 / this.view.k), 500, colours);
        ctx.fillStyle = colours.ink;
        ctx.fillText(this.fitted(ctx, node.name, r * 2.3), x, y + r * 1.12);
      }
    }
    ctx.globalAlpha = 1;
  }

  /** A disc seen from near is a small card. */
  private drawNear(ctx: CanvasRenderingContext2D, item: Item, colours: Palette, colour: string): void {
    const { node, x, y } = item;
    const r = this.layout.radius;
    const unit = r / 44;
    ctx.textAlign = "left";
    this.font(ctx, 13 * unit, 640, colours);
    ctx.fillStyle = colours.ink;
    ctx.fillText(this.fitted(ctx, node.name, 48 * unit), x - 38 * unit, y - 31 * unit);
    ctx.textAlign = "right";
    if (node.utilization) ctx.fillText(`${Math.round(node.utilization.cpu_sustained * 100)} %`, x + 38 * unit, y - 31 * unit);
    ctx.fillStyle = colours.sunken;
    ctx.fillRect(x - 38 * unit, y - 21 * unit, 76 * unit, 4 * unit);
    ctx.fillStyle = colour;
    ctx.fillRect(x - 38 * unit, y - 21 * unit, 76 * unit * Math.min(1, node.utilization?.cpu_sustained ?? 0), 4 * unit);
    const containers = this.input.byNode.get(node.name) ?? [];
    containers.slice(0, 3).forEach((workload, index) => this.drawChip(ctx, workload, x - 38 * unit, y + (-12 + index * 16) * unit, 76 * unit, 14 * unit, colours));
    if (containers.length > 3) {
      ctx.textAlign = "left";
      this.font(ctx, 9 * unit, 450, colours);
      ctx.fillStyle = colours.quiet;
      ctx.fillText(`+ ${containers.length - 3}`, x - 36 * unit, y + 39 * unit);
    }
  }

  private drawMigrations(ctx: CanvasRenderingContext2D, colours: Palette, now: number, still: boolean): void {
    for (const migration of this.input.running) {
      const [a, b, dot] = [this.items.get(migration.source), this.items.get(migration.destination), this.dots.get(migration.id)];
      if (!a || !b || !dot) continue;
      dot.at += (dot.wanted - dot.at) * (still ? 1 : 0.09);
      const [dx, dy] = [b.x - a.x, b.y - a.y];
      const length = Math.hypot(dx, dy) || 1;
      const bend = Math.min(70, length * 0.18);
      const [cx, cy] = [(a.x + b.x) / 2 - (dy / length) * bend, (a.y + b.y) / 2 + (dx / length) * bend];
      const frozen = isFrozen(migration);
      const back = migration.phase === "rolling-back";
      const colour = back ? colours.warning : frozen ? colours.frost : colours.accent;
      const unit = Math.max(1, 0.8 / this.view.k);
      ctx.beginPath();
      ctx.moveTo(a.x, a.y);
      ctx.quadraticCurveTo(cx, cy, b.x, b.y);
      ctx.lineWidth = 2.2 * unit;
      ctx.strokeStyle = colour;
      ctx.globalAlpha = 0.75;
      ctx.setLineDash([7 * unit, 6 * unit]);
      ctx.lineDashOffset = still ? 0 : ((back ? 1 : -1) * now) / 45;
      ctx.stroke();
      ctx.setLineDash([]);
      ctx.globalAlpha = 1;
      // Cards cover the ends of the way: the dot runs on the part that can be seen.
      const hidden = this.layout.cards ? Math.min(0.42, 95 / length) : Math.min(0.3, this.layout.radius / length);
      const t = hidden + (1 - 2 * hidden) * dot.at;
      const x = (1 - t) * (1 - t) * a.x + 2 * (1 - t) * t * cx + t * t * b.x;
      const y = (1 - t) * (1 - t) * a.y + 2 * (1 - t) * t * cy + t * t * b.y;
      ctx.beginPath();
      ctx.arc(x, y, 7.5 * unit, 0, 2 * Math.PI);
      ctx.fillStyle = colour;
      ctx.fill();
      ctx.lineWidth = 2.5 * unit;
      ctx.strokeStyle = colours.page;
      ctx.stroke();
      if (this.layout.cards || this.view.k > 0.9) {
        this.font(ctx, 12 * unit, 600, colours);
        ctx.textAlign = "left";
        const words = this.fitted(ctx, migration.workload, 140 * unit);
        const w = ctx.measureText(words).width;
        ctx.fillStyle = colours.page;
        ctx.globalAlpha = 0.86;
        ctx.beginPath();
        ctx.roundRect(x + 12 * unit, y - 9 * unit, w + 10 * unit, 18 * unit, 4 * unit);
        ctx.fill();
        ctx.globalAlpha = 1;
        ctx.fillStyle = colour;
        ctx.fillText(words, x + 17 * unit, y + 0.5 * unit);
      }
    }
  }

  private drawPulses(ctx: CanvasRenderingContext2D, colours: Palette, now: number, still: boolean): void {
    const lasting = 1100;
    this.pulses = still ? [] : this.pulses.filter((pulse) => now - pulse.began < lasting);
    for (const pulse of this.pulses) {
      const share = (now - pulse.began) / lasting;
      ctx.beginPath();
      ctx.arc(pulse.x, pulse.y, this.layout.radius * (0.8 + 0.9 * share), 0, 2 * Math.PI);
      ctx.globalAlpha = 1 - share;
      ctx.lineWidth = 3;
      ctx.strokeStyle = pulse.good ? colours.good : colours.warning;
      ctx.stroke();
      ctx.globalAlpha = 1;
    }
  }

  private drawDrag(ctx: CanvasRenderingContext2D, colours: Palette): void {
    if (!this.drag) return;
    const { x, y } = this.toWorld(this.drag.x, this.drag.y);
    const unit = 1 / this.view.k;
    const from = this.items.get(this.drag.from);
    if (from) {
      ctx.beginPath();
      ctx.moveTo(from.x, from.y);
      ctx.lineTo(x, y);
      ctx.lineWidth = 2 * unit;
      ctx.strokeStyle = colours.accent;
      ctx.setLineDash([5 * unit, 5 * unit]);
      ctx.stroke();
      ctx.setLineDash([]);
    }
    this.font(ctx, 13 * unit, 600, colours);
    const words = this.fitted(ctx, this.drag.workload, 180 * unit);
    const w = ctx.measureText(words).width + 20 * unit;
    ctx.beginPath();
    ctx.roundRect(x + 8 * unit, y - 14 * unit, w, 26 * unit, 6 * unit);
    ctx.fillStyle = colours.accent;
    ctx.fill();
    ctx.fillStyle = colours.accentInk;
    ctx.textAlign = "left";
    ctx.fillText(words, x + 18 * unit, y - 0.5 * unit);
  }
}
