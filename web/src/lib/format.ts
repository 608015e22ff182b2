// Numbers as people read them. A no-break space keeps a number and its unit on one line.

export const NBSP = "\u00a0";
export const DASH = "–";

type Maybe = number | null | undefined;
export const known = <T>(value: T | null | undefined): value is T => value !== null && value !== undefined;

export const percent = (fraction: Maybe): string => (known(fraction) ? `${Math.round(fraction * 100)}${NBSP}%` : DASH);

export function bytes(amount: Maybe): string {
  if (!known(amount)) return DASH;
  if (amount < 1024) return `${Math.round(amount)}${NBSP}B`;
  const units = ["KiB", "MiB", "GiB", "TiB", "PiB"];
  let at = -1;
  let rest = amount;
  while (rest >= 1023.5 && at < units.length - 1) {
    rest /= 1024;
    at += 1;
  }
  return `${rest.toFixed(rest < 9.95 ? 1 : 0)}${NBSP}${units[at]}`;
}

export const rate = (perSecond: Maybe): string => (known(perSecond) ? `${bytes(perSecond)}/s` : DASH);

export function milliseconds(ms: Maybe): string {
  if (!known(ms)) return DASH;
  if (ms < 9.95) return `${ms.toFixed(1)}${NBSP}ms`;
  if (ms < 999.5) return `${Math.round(ms)}${NBSP}ms`;
  if (ms < 9950) return `${(ms / 1000).toFixed(1)}${NBSP}s`;
  if (ms < 59_500) return `${Math.round(ms / 1000)}${NBSP}s`;
  const seconds = Math.round(ms / 1000);
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}${NBSP}min ${seconds % 60}${NBSP}s`;
  return `${Math.floor(minutes / 60)}${NBSP}h ${minutes % 60}${NBSP}min`;
}

export const seconds = (s: Maybe): string => milliseconds(known(s) ? s * 1000 : s);
export const cores = (cpus: Maybe): string => (known(cpus) ? cpus.toFixed(2) : DASH);
export const megabits = (mbps: Maybe): string => (known(mbps) ? `${mbps < 10 ? mbps.toFixed(1) : Math.round(mbps)}${NBSP}Mbit/s` : DASH);
export const degrees = (celsius: Maybe): string => (known(celsius) ? `${Math.round(celsius)}${NBSP}°C` : DASH);

/** What a factor of a score measured, in its own unit. */
export function measured(value: Maybe, unit: string): string {
  if (!known(value)) return "unknown";
  if (unit === "fraction") return percent(value);
  if (unit === "ms") return milliseconds(value);
  const short: Record<string, string> = { "tasks per core": "per core", "× a reference core": "×" };
  return `${Number(value.toFixed(value < 1 ? 2 : 1))}${NBSP}${short[unit] ?? unit}`;
}

/** How long ago, coarser the longer. */
export function ago(ms: number): string {
  const s = Math.floor(ms / 1000);
  if (s < 1) return "now";
  if (s < 120) return `${s}${NBSP}s ago`;
  if (s < 7200) return `${Math.floor(s / 60)}${NBSP}min ago`;
  if (s < 172_800) return `${Math.floor(s / 3600)}${NBSP}h ago`;
  return `${Math.floor(s / 86_400)} days ago`;
}

const absoluteForm = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
const clockForm = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
/** In the viewer's zone, with the zone. */
export const absolute = (at: string | number): string => absoluteForm.format(new Date(at));
export const clockTime = (at: string | number): string => clockForm.format(new Date(at));

export const spaced = (name: string): string => name.replaceAll("_", " ").replaceAll("-", " ");
export const byName = (a: { name: string }, b: { name: string }): number => a.name.localeCompare(b.name, "en", { numeric: true });
/** The planner's sentences put an ordinary space before a unit. */
export const unbroken = (sentence: string): string => sentence.replace(/(\d) (%|ms|s|°C)(?=\W|$)/g, `$1${NBSP}$2`);
/** Long names keep their beginning and their end, which is where names differ. */
export function shortened(name: string, length: number): string {
  const letters = [...new Intl.Segmenter(undefined, { granularity: "grapheme" }).segment(name)].map((one) => one.segment);
  if (letters.length <= length) return name;
  const tail = Math.floor(length / 3);
  return `${letters.slice(0, length - tail - 1).join("")}…${letters.slice(letters.length - tail).join("")}`;
}
