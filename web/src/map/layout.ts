// Where each node stands on the map. Pure: the same nodes give the same picture, so nothing jumps when the page is opened
// again. Units are CSS pixels at zoom 1.
//
// Few nodes stand by delay: the longer the round trip, the farther apart. Many stand in one disc for each site. Where
// positions are known, nodes can stand by place instead.

import { forceCollide, forceLink, forceManyBody, forceSimulation, forceX, forceY } from "d3-force";
import type { Node } from "../lib/types";

export const FEW = 40;
export const CARD_WIDTH = 172;
const MANY = 250;

export interface Spot { x: number; y: number }
export interface Group { name: string; x: number; y: number; r: number; nodes: number }
export interface Layout { spots: Map<string, Spot>; groups: Group[]; radius: number; cards: boolean }
export type Arrangement = "delay" | "place";

export const siteOf = (node: Node): string => node.facts.labels["site"] ?? "";

export function place(node: Node): { lat: number; lon: number } | null {
  const lat = Number.parseFloat(node.facts.labels["lat"] ?? "");
  const lon = Number.parseFloat(node.facts.labels["lon"] ?? "");
  return Number.isFinite(lat) && Number.isFinite(lon) ? { lat, lon } : null;
}

/** How far apart two nodes want to be. */
export const distanceOf = (rttMs: number | null | undefined): number =>
  250 + Math.min(360, 62 * Math.log2(1 + (rttMs ?? 20) / 2));

/** `tall`: the map is higher than wide, as on a phone. */
export function arrange(nodes: readonly Node[], arrangement: Arrangement, tall = false): Layout {
  const sorted = [...nodes].sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  const cards = sorted.length <= FEW;
  const radius = cards ? CARD_WIDTH / 2 : sorted.length <= MANY ? 22 : 15;
  if (arrangement === "place" && sorted.some(place)) return byPlace(sorted, radius, cards);
  return cards ? byDelay(sorted, radius, tall) : bySite(sorted, radius, tall);
}

interface Body { name: string; x: number; y: number; index?: number }

function byDelay(nodes: Node[], radius: number, tall: boolean): Layout {
  const [wide, high] = tall ? [0.7, 1.4] : [1.3, 0.8];
  const ring = Math.max(160, nodes.length * 38);
  const bodies: Body[] = nodes.map((node, index) => {
    const angle = (2 * Math.PI * index) / Math.max(1, nodes.length) - Math.PI * 0.75;
    return { name: node.name, x: Math.cos(angle) * ring * wide, y: Math.sin(angle) * ring * high };
  });
  const known = new Set(nodes.map((node) => node.name));
  const links = nodes.flatMap((node) => node.links.filter((link) => known.has(link.to) && node.name < link.to).map((link) => ({ source: node.name, target: link.to, rtt: link.rtt_ms })));
  const simulation = forceSimulation(bodies)
    .force("link", forceLink<Body, { source: string | Body; target: string | Body; rtt: number | null | undefined }>(links).id((body) => body.name).distance((link) => distanceOf(link.rtt)).strength(1.4 / Math.max(3, nodes.length)))
    .force("charge", forceManyBody().strength(-420).distanceMax(900))
    .force("collide", forceCollide(radius * 1.42).iterations(3))
    .force("x", forceX(0).strength(tall ? 0.16 : 0.012))
    .force("y", forceY(0).strength(tall ? 0.01 : 0.05))
    .stop();
  simulation.tick(240);
  return { spots: new Map(bodies.map(({ name, x, y }) => [name, { x, y }])), groups: [], radius, cards: true };
}

const GOLDEN = Math.PI * (3 - Math.sqrt(5));

function bySite(nodes: Node[], radius: number, tall: boolean): Layout {
  const sites = new Map<string, Node[]>();
  for (const node of nodes) {
    const site = siteOf(node);
    const list = sites.get(site);
    if (list) list.push(node);
    else sites.set(site, [node]);
  }
  const step = radius * 2.5;
  const groups: Group[] = [...sites].map(([name, list], index) => {
    const angle = index * GOLDEN;
    return { name, nodes: list.length, r: step * (0.62 * Math.sqrt(list.length) + 0.75), x: Math.cos(angle) * 300 * Math.sqrt(index), y: Math.sin(angle) * 200 * Math.sqrt(index) };
  });
  const simulation = forceSimulation(groups)
    .force("collide", forceCollide<Group>((group) => group.r + radius * 1.6).iterations(4))
    .force("x", forceX(0).strength(tall ? 0.15 : 0.05))
    .force("y", forceY(0).strength(tall ? 0.05 : 0.11))
    .stop();
  simulation.tick(160);
  const spots = new Map<string, Spot>();
  for (const group of groups) {
    (sites.get(group.name) ?? []).forEach((node, index) => {
      const distance = step * 0.58 * Math.sqrt(index + 0.35);
      spots.set(node.name, { x: group.x + Math.cos(index * GOLDEN) * distance, y: group.y + Math.sin(index * GOLDEN) * distance });
    });
  }
  return { spots, groups: sites.size > 1 || !sites.has("") ? groups.map(({ name, x, y, r, nodes: n }) => ({ name, x, y, r, nodes: n })) : [], radius, cards: false };
}

function byPlace(nodes: Node[], radius: number, cards: boolean): Layout {
  const places = nodes.map((node) => place(node));
  const known = places.filter((one) => one !== null);
  const middle = known.reduce((sum, one) => sum + one.lat, 0) / known.length;
  const squeeze = Math.cos((middle * Math.PI) / 180);
  const xs = known.map((one) => one.lon * squeeze);
  const ys = known.map((one) => -one.lat);
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const extent = Math.max(right - left, bottom - top, 1e-6);
  const size = Math.sqrt(nodes.length) * radius * (cards ? 3.4 : 4.5);
  const scale = size / extent;
  let aside = 0;
  const bodies = nodes.map((node, index) => {
    const one = places[index];
    if (one) {
      const x = (one.lon * squeeze - (left + right) / 2) * scale;
      const y = (-one.lat - (top + bottom) / 2) * scale;
      return { name: node.name, x, y, homeX: x, homeY: y };
    }
    // Nobody knows where these are: below the others, in a row.
    aside += 1;
    const x = (aside - 1) * radius * 3 - size / 2;
    return { name: node.name, x, y: size * 0.75, homeX: x, homeY: size * 0.75 };
  });
  const simulation = forceSimulation(bodies)
    .force("x", forceX<(typeof bodies)[number]>((body) => body.homeX).strength(0.25))
    .force("y", forceY<(typeof bodies)[number]>((body) => body.homeY).strength(0.25))
    .force("collide", forceCollide(radius * (cards ? 1.35 : 1.15)).iterations(2))
    .stop();
  simulation.tick(nodes.length > MANY ? 25 : 80);
  return { spots: new Map(bodies.map(({ name, x, y }) => [name, { x, y }])), groups: [], radius, cards };
}

/** Which lines are worth drawing: all between few nodes, else each node's nearest two. */
export function lines(nodes: readonly Node[], all: boolean): { a: string; b: string; rtt: number | null }[] {
  const known = new Set(nodes.map((node) => node.name));
  const found = new Map<string, { a: string; b: string; rtt: number | null }>();
  for (const node of nodes) {
    let links = node.links.filter((link) => known.has(link.to));
    if (!all) links = [...links].filter((link) => link.rtt_ms !== null && link.rtt_ms !== undefined).sort((x, y) => (x.rtt_ms ?? 0) - (y.rtt_ms ?? 0)).slice(0, 2);
    for (const link of links) {
      const [a, b] = node.name < link.to ? [node.name, link.to] : [link.to, node.name];
      const key = JSON.stringify([a, b]);
      const before = found.get(key);
      if (!before || (before.rtt === null && link.rtt_ms !== null)) found.set(key, { a, b, rtt: link.rtt_ms ?? null });
    }
  }
  return [...found.values()];
}
