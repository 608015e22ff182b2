// What differs between two texts, line by line: the longest common subsequence, with a few lines around each change.

export interface Line { kind: "same" | "added" | "removed" | "gap"; text: string; before: number | null; after: number | null }

export function diff(before: string, after: string, around = 2): Line[] {
  const a = before.split("\n");
  const b = after.split("\n");
  // Equal ends need no table.
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head += 1;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail += 1;
  const [n, m] = [a.length - head - tail, b.length - head - tail];
  const width = m + 1;
  const table = new Uint32Array((n + 1) * width);
  for (let i = n - 1; i >= 0; i -= 1) {
    for (let j = m - 1; j >= 0; j -= 1) {
      table[i * width + j] = a[head + i] === b[head + j] ? (table[(i + 1) * width + j + 1] ?? 0) + 1 : Math.max(table[(i + 1) * width + j] ?? 0, table[i * width + j + 1] ?? 0);
    }
  }
  const lines: Line[] = [];
  const same = (i: number, j: number) => lines.push({ kind: "same", text: a[i] ?? "", before: i + 1, after: j + 1 });
  for (let i = 0; i < head; i += 1) same(i, i);
  let [i, j] = [0, 0];
  while (i < n || j < m) {
    if (i < n && j < m && a[head + i] === b[head + j]) {
      same(head + i, head + j);
      i += 1;
      j += 1;
    } else if (i < n && (j >= m || (table[(i + 1) * width + j] ?? 0) >= (table[i * width + j + 1] ?? 0))) {
      lines.push({ kind: "removed", text: a[head + i] ?? "", before: head + i + 1, after: null });
      i += 1;
    } else {
      lines.push({ kind: "added", text: b[head + j] ?? "", before: null, after: head + j + 1 });
      j += 1;
    }
  }
  for (let k = 0; k < tail; k += 1) same(head + n + k, head + m + k);
  return folded(lines, around);
}

function folded(lines: Line[], around: number): Line[] {
  const near = lines.map(() => false);
  lines.forEach((line, at) => {
    if (line.kind === "same") return;
    for (let k = Math.max(0, at - around); k <= Math.min(lines.length - 1, at + around); k += 1) near[k] = true;
  });
  const kept: Line[] = [];
  lines.forEach((line, at) => {
    if (near[at]) kept.push(line);
    else if (kept.at(-1)?.kind !== "gap" && kept.length) kept.push({ kind: "gap", text: "", before: null, after: null });
  });
  if (kept.at(-1)?.kind === "gap") kept.pop();
  return kept;
}
