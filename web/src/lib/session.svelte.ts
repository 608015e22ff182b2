// Who is signed in: a token, kept for this tab, or on this device if the person says so.

const KEY = "fogshift.token";

function stored(): string | null {
  try {
    return sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY);
  } catch {
    return null; // storage is switched off: the token lives as long as the page
  }
}

class Session {
  token = $state<string | null>(stored());
  /** What the orchestrator says this token may do; null until it was asked. */
  role = $state<string | null>(null);
  name = $state<string | null>(null);
  /** Why the last token was put aside. */
  ended = $state<string | null>(null);

  /** Whether changes are offered. Until the role is known they are: the orchestrator has the last word. */
  get canOperate(): boolean {
    return this.token !== null && (this.role === null || this.role === "admin");
  }

  begin(token: string, keep: boolean): void {
    this.token = token;
    this.ended = null;
    try {
      sessionStorage.setItem(KEY, token);
      if (keep) localStorage.setItem(KEY, token);
    } catch {
      // see stored()
    }
  }

  end(why: string | null = null): void {
    this.token = null;
    this.role = null;
    this.name = null;
    this.ended = why;
    try {
      sessionStorage.removeItem(KEY);
      localStorage.removeItem(KEY);
    } catch {
      // see stored()
    }
  }
}

export const session = new Session();
