import { describe, expect, it } from "vitest";
import type { Node } from "../lib/types";
import { inkOn, loadColour } from "../map/colour";
import { arrange, FEW, lines } from "../map/layout";
import { diff } from "./diff";
import { ago, bytes, measured, milliseconds, NBSP, shortened } from "./format";
import { freeze, spans } from "./migration";
import { parse } from "./route.svelte";
import { choices, context, type Schema } from "./schema";
import { type Message, Parser } from "./sse";

const space = (words: string) => words.replaceAll(NBSP, " ");

describe("numbers", () => {
  it("have three figures at most and their unit", () => {
    expect([0, 1023, 1024, 10 * 1024 ** 2, 1.5 * 1024 ** 3].map((n) => space(bytes(n)))).toEqual(["0 B", "1023 B", "1.0 KiB", "10 MiB", "1.5 GiB"]);
    expect([0.25, 152, 999.6, 9_960, 59_600, 3_600_000].map((n) => space(milliseconds(n)))).toEqual(["0.3 ms", "152 ms", "1.0 s", "10 s", "1 min 0 s", "1 h 0 min"]);
    expect(space(measured(0.9, "fraction"))).toBe("90 %");
    expect(measured(null, "ms")).toBe("unknown");
    expect(space(ago(119_000))).toBe("119 s ago");
    expect(ago(-5)).toBe("now");
  });

  it("a long name keeps its ends and cuts no letter in two", () => {
    expect(shortened("short", 10)).toBe("short");
    expect(shortened("a".repeat(100) + "tail", 12)).toMatch(/^a+…tail$/);
    const family = "👨‍👩‍👧".repeat(30);
    expect(shortened(family, 6)).toBe(`${"👨‍👩‍👧".repeat(3)}…${"👨‍👩‍👧".repeat(2)}`);
  });
});

describe("server-sent events", () => {
  const feed = (pieces: string[]): Message[] => {
    const got: Message[] = [];
    const parser = new Parser((message) => got.push(message));
    for (const piece of pieces) parser.push(piece);
    return got;
  };
  const stream = ": hello\n\nid: 7\nevent: node\ndata: {\"a\":1}\n\ndata: one\ndata: two\n\n";

  it("are the same however the stream is cut", () => {
    const whole = feed([stream]);
    expect(whole).toEqual([{ id: "7", event: "node", data: '{"a":1}' }, { id: "7", event: "message", data: "one\ntwo" }]);
    for (let at = 0; at <= stream.length; at += 1) expect(feed([stream.slice(0, at), stream.slice(at)])).toEqual(whole);
    expect(feed([...stream])).toEqual(whole);
    expect(feed([...stream.replaceAll("\n", "\r\n")])).toEqual(whole);
  });
});

describe("a migration's record", () => {
  const at = (s: number) => new Date(1_700_000_000_000 + s * 1000).toISOString();
  const record = {
    phase: "done" as const, finished_at: at(3), downtime_ms: 200, answered: { resume: at(2) }, created_at: at(0),
    phases: [{ phase: "inspecting" as const, at: at(0) }, { phase: "moving" as const, at: at(1) }, { phase: "discarding" as const, at: at(2) }, { phase: "done" as const, at: at(3) }],
  };

  it("gives the spans of its phases and the place of its freeze", () => {
    expect(spans(record, 0).map((span) => [span.phase, span.to - span.from, span.current])).toEqual([["inspecting", 1000, false], ["moving", 1000, false], ["discarding", 1000, false]]);
    expect(freeze(record)).toEqual({ from: Date.parse(at(2)) - 200, to: Date.parse(at(2)) });
    expect(freeze({ ...record, downtime_ms: null })).toBeNull();
  });
});

describe("routes", () => {
  it("carry any name", () => {
    expect(parse("")).toMatchObject({ page: "fog", name: null });
    expect(parse(`#/nodes/${encodeURIComponent("a/b ?#%")}`)).toMatchObject({ page: "nodes", name: "a/b ?#%" });
    expect(parse("#/nodes/%E0%A4%A")).toMatchObject({ page: "nodes", name: "%E0%A4%A" });
  });
});

describe("a difference", () => {
  it("shows what came and went, with its line numbers", () => {
    expect(diff("a\nb\nc", "a\nB\nc").map((line) => `${line.kind} ${line.text}`)).toEqual(["same a", "removed b", "added B", "same c"]);
    expect(diff("same", "same")).toEqual([]);
    const long = Array.from({ length: 50 }, (_, index) => `line ${index}`);
    const changed = diff(long.join("\n"), long.map((line, index) => (index === 25 ? "other" : line)).join("\n"));
    expect(changed.filter((line) => line.kind !== "same").map((line) => line.text)).toEqual(["line 25", "other"]);
    expect(changed.length).toBeLessThan(8);
  });
});

describe("completion", () => {
  const schema: Schema = {
    properties: {
      autonomy: { $ref: "#/$defs/Autonomy" },
      overload: { $ref: "#/$defs/Overload" },
      windows: { type: "array", items: { properties: { effect: { enum: ["freeze", "drain"] } } } },
    },
    $defs: {
      Autonomy: { oneOf: [{ const: "automatic", description: "The planner acts." }, { const: "confirm" }] },
      Overload: { properties: { cpu: { $ref: "#/$defs/Limit" } } },
      Limit: { properties: { start: { type: "number" }, done: { type: "number" } } },
    },
  };
  const offered = (text: string) => choices(schema, context(text, text.length)).map((one) => one.label);

  it("knows where it is in the text", () => {
    expect(offered("aut")).toEqual(["autonomy", "overload", "windows"]);
    expect(offered("autonomy = ")).toEqual(['"automatic"', '"confirm"']);
    expect(offered("[over")).toEqual(["overload"]);
    expect(offered("[[")).toEqual(["windows"]);
    expect(offered("[overload]\nc")).toEqual(["cpu"]);
    expect(offered("[overload]\ncpu = { start = 0.8, d")).toEqual(["start", "done"]);
    expect(offered("[[windows]]\neffect = ")).toEqual(['"freeze"', '"drain"']);
    expect(offered("# autonomy = ")).toEqual([]);
  });
});

describe("the map", () => {
  const node = (name: string, labels: Record<string, string> = {}, links: { to: string; rtt_ms: number }[] = []) =>
    ({ name, facts: { labels }, links: links.map((link) => ({ ...link, loss: 0 })) }) as unknown as Node;

  it("puts what is far away far away, and gives the same picture twice", () => {
    const near = (name: string, others: string[]) => node(name, {}, others.map((to) => ({ to, rtt_ms: to === "D" || name === "D" ? 80 : 0.2 })));
    const nodes = ["A", "B", "C", "D"].map((name) => near(name, ["A", "B", "C", "D"].filter((other) => other !== name)));
    const { spots } = arrange(nodes, "delay");
    const distance = (a: string, b: string) => Math.hypot((spots.get(a)?.x ?? 0) - (spots.get(b)?.x ?? 0), (spots.get(a)?.y ?? 0) - (spots.get(b)?.y ?? 0));
    expect(distance("A", "D")).toBeGreaterThan(distance("A", "B"));
    expect(arrange([...nodes].reverse(), "delay").spots).toEqual(spots);
  });

  it.each([["delay", 1000], ["delay", FEW], ["place", 300]] as const)("by %s: of %i nodes no two cover each other", (arrangement, many) => {
    const nodes = Array.from({ length: many }, (_, index) => node(`n${index}`, { site: `site ${index % 7}`, lat: String(60 + (index % 17) / 10), lon: String(20 + (index % 23) / 10) }));
    const { spots, radius, cards } = arrange(nodes, arrangement);
    const list = [...spots.values()];
    expect(list.length).toBe(many);
    let closest = Infinity;
    for (let a = 0; a < list.length; a += 1) for (let b = 0; b < a; b += 1) closest = Math.min(closest, Math.hypot((list[a]?.x ?? 0) - (list[b]?.x ?? 0), (list[a]?.y ?? 0) - (list[b]?.y ?? 0)));
    expect(closest).toBeGreaterThan(radius * (cards ? 1.2 : 1.1));
  });

  it("draws each line once", () => {
    const drawn = lines([node("A", {}, [{ to: "B", rtt_ms: 1 }]), node("B", {}, [{ to: "A", rtt_ms: 1 }, { to: "gone", rtt_ms: 1 }])], true);
    expect(drawn).toEqual([{ a: "A", b: "B", rtt: 1 }]);
  });

  it("writes on every load's colour so that it can be read", () => {
    const luminance = (rgb: readonly number[]) => rgb.map((c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4)).reduce((sum, c, index) => sum + c * ([0.2126, 0.7152, 0.0722][index] ?? 0), 0);
    for (const dark of [false, true]) {
      for (let load = 0; load <= 1; load += 0.01) {
        const colour = loadColour(load, 0.8, dark);
        const [one, other] = [luminance(colour), inkOn(colour) === "#ffffff" ? 1 : 0];
        expect((Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05), `load ${load}`).toBeGreaterThan(4.5);
      }
    }
  });
});
