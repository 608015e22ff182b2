// The only place that talks to the orchestrator. Every failure becomes a `Failed` with a sentence for people.

import { clock } from "./clock.svelte";
import { session } from "./session.svelte";
import { text } from "./text";
import type { FieldError, Identity, Problem } from "./types";

export class Failed extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly kind: string = "",
    readonly errors: FieldError[] = [],
  ) {
    super(message);
  }

  get forbidden(): boolean {
    return this.status === 401 || this.status === 403;
  }
}

const DEADLINE_MS = 30_000;

export function headers(): Record<string, string> {
  return session.token ? { authorization: `Bearer ${session.token}` } : {};
}

export async function failure(response: Response): Promise<Failed> {
  const body = await response.text().catch(() => "");
  try {
    const problem = JSON.parse(body) as Problem;
    if (typeof problem.detail === "string") {
      return new Failed(problem.detail, response.status, problem.type, problem.errors ?? []);
    }
  } catch {
    // a proxy's page, or nothing
  }
  return new Failed(text.errors.status(response.status), response.status);
}

async function send(method: string, path: string, body?: unknown, more: Record<string, string> = {}): Promise<Response> {
  const asked = Date.now();
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      headers: { ...headers(), accept: "application/json", ...(body === undefined ? {} : { "content-type": "application/json" }), ...more },
      body: body === undefined ? null : JSON.stringify(body),
      signal: AbortSignal.timeout(DEADLINE_MS),
    });
  } catch {
    throw new Failed(text.errors.unreachable, 0);
  }
  clock.learn(response.headers.get("date"), asked);
  if (response.ok) return response;
  const failed = await failure(response);
  if (response.status === 401 && session.token && !more["authorization"]) session.end(text.signIn.refused);
  throw failed;
}

export const path = (...segments: string[]): string => `/${segments.map(encodeURIComponent).join("/")}`;

export async function get<T>(where: string, query?: Record<string, string | number | null | undefined>): Promise<T> {
  const given = Object.entries(query ?? {}).filter(([, value]) => value !== null && value !== undefined);
  const tail = given.length ? `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}` : "";
  return (await send("GET", where + tail)).json() as Promise<T>;
}

/** Whose token this is; asked before anybody is signed in with it. */
export async function identify(token: string): Promise<Identity> {
  return (await send("GET", "/v1/whoami", undefined, { authorization: `Bearer ${token}` })).json() as Promise<Identity>;
}

export async function post<T>(where: string, body?: unknown): Promise<T> {
  return read<T>(await send("POST", where, body));
}

export async function put<T>(where: string, body: unknown, more?: Record<string, string>): Promise<T> {
  return read<T>(await send("PUT", where, body, more));
}

async function read<T>(response: Response): Promise<T> {
  const body = await response.text();
  return (body === "" ? null : JSON.parse(body)) as T;
}
