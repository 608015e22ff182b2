// Short words about what was just done. They go by themselves; errors stay until they are closed.

export interface Toast { id: number; tone: "good" | "bad"; words: string; href: string | null }

class Toasts {
  list = $state.raw<readonly Toast[]>([]);
  private last = 0;

  say(words: string, href: string | null = null): void {
    const id = this.add("good", words, href);
    setTimeout(() => this.close(id), 6000);
  }

  complain(error: unknown): void {
    this.add("bad", error instanceof Error ? error.message : String(error), null);
  }

  close(id: number): void {
    this.list = this.list.filter((toast) => toast.id !== id);
  }

  private add(tone: Toast["tone"], words: string, href: string | null): number {
    this.last += 1;
    this.list = [...this.list.slice(-3), { id: this.last, tone, words, href }];
    return this.last;
  }
}

export const toasts = new Toasts();
