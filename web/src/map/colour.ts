// A load as a colour: calm, then amber, then red from the policy's limit on. The number beside it says the same.

type Rgb = readonly [number, number, number];
const LIGHT: readonly [number, Rgb][] = [[0, [206, 220, 228]], [0.45, [139, 182, 196]], [0.8, [222, 164, 58]], [1, [190, 50, 38]]];
const DARK: readonly [number, Rgb][] = [[0, [42, 58, 70]], [0.45, [52, 106, 122]], [0.8, [196, 138, 40]], [1, [222, 84, 70]]];

/** `limit` is where the policy's overload begins; it is drawn as the red end's beginning. */
export function loadColour(load: number, limit: number, dark: boolean): Rgb {
  const scaled = load >= limit ? 0.94 + 0.06 * Math.min(1, (load - limit) / Math.max(0.01, 1 - limit)) : (load / limit) * 0.84;
  const stops = dark ? DARK : LIGHT;
  for (let at = 1; at < stops.length; at += 1) {
    const [from, to] = [stops[at - 1], stops[at]];
    if (!from || !to || scaled > to[0]) continue;
    const share = (scaled - from[0]) / (to[0] - from[0]);
    const mix = (channel: 0 | 1 | 2) => Math.round(from[1][channel] + (to[1][channel] - from[1][channel]) * share);
    return [mix(0), mix(1), mix(2)];
  }
  return stops.at(-1)?.[1] ?? [128, 128, 128];
}

export const css = (rgb: Rgb): string => `rgb(${rgb[0]} ${rgb[1]} ${rgb[2]})`;

/** Black or white, whichever can be read on it. */
export function inkOn(rgb: Rgb): string {
  const linear = rgb.map((channel) => {
    const share = channel / 255;
    return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  const luminance = 0.2126 * (linear[0] ?? 0) + 0.7152 * (linear[1] ?? 0) + 0.0722 * (linear[2] ?? 0);
  return luminance > 0.179 ? "#000000" : "#ffffff";
}
