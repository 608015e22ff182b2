// One clock for every "5 s ago". It shows the orchestrator's time: a browser's clock may be wrong by minutes.

class Clock {
  private offset = 0;
  /** The orchestrator's time now, renewed every second. */
  now = $state(Date.now());

  constructor() {
    if (typeof document !== "undefined") setInterval(() => { this.now = this.exact(); }, 1000);
  }

  exact(): number {
    return Date.now() + this.offset;
  }

  /** Learns from an answer's Date header, which counts whole seconds; small differences are left alone. */
  learn(header: string | null, asked: number): void {
    const offset = Date.parse(header ?? "") + 500 - (asked + Date.now()) / 2;
    if (Number.isFinite(offset)) this.offset = Math.abs(offset) > 2000 ? offset : 0;
  }
}

export const clock = new Clock();
