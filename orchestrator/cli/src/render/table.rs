//! Tables: no lines, two spaces between the columns, numbers to the right.

use tabled::builder::Builder;
use tabled::settings::object::Columns;
use tabled::settings::{Alignment, Padding, Style};

use super::paint::{Paint, Tone};
use super::text::clean;

/// A cell: what it says, and how that is to be taken.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    pub(crate) fn toned(text: impl AsRef<str>, tone: Tone) -> Self {
        Self { text: clean(text.as_ref()), tone }
    }

    pub(crate) fn quiet(text: impl AsRef<str>) -> Self {
        Self::toned(text, Tone::Quiet)
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

/// To which side a column leans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

pub(crate) struct Table {
    sides: Vec<Side>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new(columns: &[(&str, Side)]) -> Self {
        let head = columns.iter().map(|(name, _)| Cell::toned(name.to_uppercase(), Tone::Head)).collect();
        Self { sides: columns.iter().map(|(_, side)| *side).collect(), rows: vec![head] }
    }

    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.sides.len());
        self.rows.push(cells);
    }

    /// Lays it out, every line with this before it and a line feed behind it.
    ///
    /// The colours are put in afterwards: an escape sequence has no width, and no layout has to know that.
    pub(crate) fn render(&self, paint: Paint, indent: &str) -> String {
        let mut builder = Builder::default();
        for row in &self.rows {
            builder.push_record(row.iter().map(|cell| cell.text.as_str()));
        }
        let mut table = builder.build();
        table.with(Style::empty()).with(Padding::new(0, 2, 0, 0));
        for (column, side) in self.sides.iter().enumerate() {
            let side = if *side == Side::Left { Alignment::left() } else { Alignment::right() };
            table.modify(Columns::one(column), side);
        }
        let plain = table.to_string();
        let lines = plain
            .lines()
            .zip(&self.rows)
            .map(|(line, row)| format!("{indent}{}\n", painted(line, row, paint).trim_end()));
        lines.collect()
    }
}

/// Paints each cell of a laid-out line, from left to right.
fn painted(line: &str, row: &[Cell], paint: Paint) -> String {
    let mut out = String::new();
    let mut rest = line.trim_end();
    for cell in row {
        // An empty cell is found at once and takes nothing.
        if let Some(at) = rest.find(&cell.text) {
            out.push_str(&rest[..at]);
            out.push_str(&paint.tone(cell.tone, &cell.text));
            rest = &rest[at + cell.text.len()..];
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Table {
        let mut table = Table::new(&[("name", Side::Left), ("cpu", Side::Right), ("note", Side::Left)]);
        table.row(vec!["A".into(), Cell::toned("90 %", Tone::Bad), "".into()]);
        table.row(vec!["fog-ö".into(), "5 %".into(), "3 × 4".into()]);
        table
    }

    #[test]
    fn numbers_lean_right_and_no_line_ends_in_spaces() {
        let expected = "  NAME    CPU  NOTE\n  A      90 %\n  fog-ö   5 %  3 × 4\n";
        assert_eq!(example().render(Paint::new(false), "  "), expected);
    }

    #[test]
    fn colours_change_no_layout() {
        let painted = example().render(Paint::new(true), "");
        assert!(painted.contains("\u{1b}[31m90 %\u{1b}[0m"), "{painted:?}");
        let mut bare = painted;
        for code in ["\u{1b}[1m", "\u{1b}[31m", "\u{1b}[0m"] {
            bare = bare.replace(code, "");
        }
        assert_eq!(bare, example().render(Paint::new(false), ""));
    }

    #[test]
    fn what_a_container_is_named_cannot_break_the_terminal() {
        let mut table = Table::new(&[("name", Side::Left)]);
        table.row(vec!["a\u{1b}[2Jb\nc".into()]);
        assert_eq!(table.render(Paint::new(false), ""), "NAME\na\u{fffd}[2Jb c\n");
    }
}
