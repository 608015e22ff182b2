// Routes are fragments: `#/nodes/A`. The orchestrator serves one page and no path is guessed.

export interface Route { page: string; name: string | null; query: URLSearchParams }

export function parse(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const [page = "", ...rest] = path.split("/");
  let name: string | null = rest.join("/") || null;
  try {
    name = name === null ? null : decodeURIComponent(name);
  } catch {
    // not encoded by us: taken as it is
  }
  return { page: page || "fog", name, query: new URLSearchParams(query) };
}

export const href = (page: string, name?: string | null, query?: Record<string, string>): string => {
  const tail = query && Object.keys(query).length ? `?${new URLSearchParams(query)}` : "";
  return `#/${page === "fog" ? "" : page}${name ? `/${encodeURIComponent(name)}` : ""}${tail}`;
};

class Router {
  route = $state.raw<Route>(parse(globalThis.location?.hash ?? ""));

  constructor() {
    globalThis.addEventListener?.("hashchange", () => {
      this.route = parse(location.hash);
    });
  }

  go(to: string): void {
    location.hash = to;
  }
}

export const router = new Router();
