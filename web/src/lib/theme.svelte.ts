// Light, dark, or as the system says. Set as an attribute, so that the canvas can read the same colours.

export type Theme = "auto" | "light" | "dark";
const KEY = "fogshift.theme";

function stored(): Theme {
  try {
    const value = localStorage.getItem(KEY);
    return value === "light" || value === "dark" ? value : "auto";
  } catch {
    return "auto";
  }
}

class Look {
  theme = $state<Theme>(stored());
  private system = $state(globalThis.matchMedia?.("(prefers-color-scheme: dark)").matches ?? false);
  readonly dark = $derived(this.theme === "dark" || (this.theme === "auto" && this.system));

  constructor() {
    globalThis.matchMedia?.("(prefers-color-scheme: dark)").addEventListener("change", (event) => { this.system = event.matches; });
  }

  next(): void {
    this.theme = this.theme === "auto" ? "light" : this.theme === "light" ? "dark" : "auto";
    try {
      localStorage.setItem(KEY, this.theme);
    } catch {
      // kept for this page only
    }
  }
}

export const look = new Look();
