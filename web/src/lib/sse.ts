// Server-sent events over fetch: EventSource can send no token.

export interface Message { id: string; event: string; data: string }

/** Cuts a stream of text into messages; text may arrive in any pieces. */
export class Parser {
  private rest = "";
  private id = "";
  private event = "";
  private data: string[] = [];

  constructor(private readonly give: (message: Message) => void) {}

  push(text: string): void {
    const lines = (this.rest + text).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop() ?? "";
    for (const line of lines) this.line(line);
  }

  private line(line: string): void {
    if (line === "") {
      if (this.data.length) this.give({ id: this.id, event: this.event || "message", data: this.data.join("\n") });
      this.event = "";
      this.data = [];
      return;
    }
    if (line.startsWith(":")) return;
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "id" && !value.includes("\0")) this.id = value;
    else if (field === "event") this.event = value;
    else if (field === "data") this.data.push(value);
  }
}

/** Reads until the connection ends; any byte, a comment too, counts as a sign of life. */
export async function read(response: Response, give: (message: Message) => void, alive: () => void): Promise<void> {
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  if (!reader) return;
  const parser = new Parser(give);
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    alive();
    parser.push(value);
  }
}
