// The text editor. It lives in a shadow root: there CodeMirror uses constructed style sheets, which the page's strict
// policy allows, where it would otherwise write style elements, which the policy forbids.

import { acceptCompletion, autocompletion, closeBrackets, type CompletionContext, completionKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { HighlightStyle, StreamLanguage, syntaxHighlighting } from "@codemirror/language";
import { toml } from "@codemirror/legacy-modes/mode/toml";
import { type Diagnostic, lintGutter, setDiagnostics } from "@codemirror/lint";
import { EditorState } from "@codemirror/state";
import { drawSelection, EditorView, highlightActiveLine, keymap, lineNumbers } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { choices, context, type Schema } from "../lib/schema";

export interface Mistake { line: number; column: number; words: string }
export interface Editor {
  set: (text: string) => void;
  mark: (mistakes: readonly Mistake[]) => void;
  destroy: () => void;
}

const colours = HighlightStyle.define([
  { tag: tags.comment, color: "var(--quiet)" },
  { tag: [tags.string, tags.special(tags.string)], color: "var(--good)" },
  { tag: [tags.number, tags.bool, tags.atom], color: "var(--frost)" },
  { tag: [tags.propertyName, tags.definition(tags.variableName)], color: "var(--ink)" },
  { tag: [tags.bracket, tags.heading, tags.keyword], color: "var(--accent)", fontWeight: "600" },
]);

const look = EditorView.theme({
  "&": { height: "100%", fontSize: "13px", color: "var(--ink)", background: "var(--surface)" },
  "&.cm-focused": { outline: "2px solid var(--accent)", outlineOffset: "-2px" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.55", overflow: "auto" },
  ".cm-content": { caretColor: "var(--ink)" },
  ".cm-cursor": { borderLeftColor: "var(--ink)" },
  ".cm-gutters": { background: "var(--surface)", color: "var(--quiet)", borderRight: "1px solid var(--line)" },
  ".cm-activeLine, .cm-activeLineGutter": { background: "color-mix(in srgb, var(--sunken) 60%, transparent)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": { background: "var(--accent-soft)" },
  ".cm-tooltip": { background: "var(--raised)", border: "1px solid var(--line-strong)", borderRadius: "6px", color: "var(--ink)", boxShadow: "var(--shadow)" },
  ".cm-tooltip-autocomplete > ul > li": { padding: "2px 8px" },
  ".cm-tooltip-autocomplete > ul > li[aria-selected]": { background: "var(--accent-soft)", color: "var(--accent)" },
  ".cm-completionDetail": { color: "var(--quiet)", fontStyle: "normal" },
  ".cm-completionInfo": { maxWidth: "340px", padding: "8px 10px", fontFamily: "var(--sans)" },
  // CodeMirror's own marks are data: images, which the page's policy forbids.
  ".cm-lintRange-error": { backgroundImage: "none", textDecoration: "underline wavy var(--bad)", textUnderlineOffset: "3px" },
  ".cm-lint-marker-error": { content: "''", width: "8px", height: "8px", margin: "5px 0 0 3px", borderRadius: "50%", background: "var(--bad)" },
  ".cm-diagnostic": { fontFamily: "var(--sans)", padding: "6px 10px" },
  ".cm-diagnostic-error": { borderLeft: "3px solid var(--bad)" },
});

export function edit(host: HTMLElement, options: { text: string; schema: Schema | null; readOnly: boolean; label: string; changed: (text: string) => void }): Editor {
  const root = host.shadowRoot ?? host.attachShadow({ mode: "open" });
  root.replaceChildren();
  const frame = document.createElement("div");
  frame.style.height = "100%";
  root.append(frame);
  let silent = false;
  const complete = (where: CompletionContext) => {
    const place = context(where.state.doc.toString(), where.pos);
    if (!place || !options.schema || (!where.explicit && place.from === where.pos)) return null;
    const list = choices(options.schema, place);
    return list.length ? { from: place.from, options: list.map((one) => ({ label: one.label, detail: one.detail, ...(one.info ? { info: one.info } : {}), type: place.kind === "value" ? "constant" : "property" })) } : null;
  };
  const view = new EditorView({
    root,
    parent: frame,
    state: EditorState.create({
      doc: options.text,
      extensions: [
        lineNumbers(), history(), drawSelection(), highlightActiveLine(), closeBrackets(), lintGutter(),
        StreamLanguage.define(toml), syntaxHighlighting(colours), look,
        autocompletion({ override: [complete], icons: false }),
        // Tab leaves the editor, unless a completion is open: nobody is caught in it.
        keymap.of([{ key: "Tab", run: acceptCompletion }, ...completionKeymap, ...historyKeymap, ...defaultKeymap]),
        EditorView.contentAttributes.of({ "aria-label": options.label }),
        EditorState.readOnly.of(options.readOnly),
        EditorView.updateListener.of((update) => { if (update.docChanged && !silent) options.changed(update.state.doc.toString()); }),
      ],
    }),
  });
  return {
    set(text) {
      if (view.state.doc.toString() === text) return;
      silent = true;
      view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: text } });
      silent = false;
    },
    mark(mistakes) {
      const { doc } = view.state;
      const found: Diagnostic[] = mistakes.map((mistake) => {
        const line = doc.line(Math.min(Math.max(1, mistake.line), doc.lines));
        const from = Math.min(line.to, line.from + Math.max(0, mistake.column - 1));
        return { from, to: Math.max(from, line.to), severity: "error", message: mistake.words };
      });
      view.dispatch(setDiagnostics(view.state, found.sort((a, b) => a.from - b.from)));
    },
    destroy: () => view.destroy(),
  };
}
