//! Tables for people: columns that line up, nothing else.

/// What stands where something is unknown.
pub const UNKNOWN: &str = "-";

/// A table with a heading.
#[derive(Debug)]
pub struct Columns<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Columns<N> {
    /// A table with these columns.
    pub fn new(heading: [&str; N]) -> Self {
        Self { rows: vec![heading.map(str::to_owned)] }
    }

    /// Adds a row; an empty cell is unknown.
    pub fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| if cell.is_empty() { UNKNOWN.to_owned() } else { cell }));
    }

    /// The table, without a line feed at its end; `None` when nothing stands below the heading. Widths are counted in
    /// characters; control characters of names are left out.
    pub fn text(&self) -> Option<String> {
        let rows: Vec<[String; N]> = self.rows.iter().map(|row| row.clone().map(|cell| plain(&cell))).collect();
        let mut widths = [0; N];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |row: &[String; N]| {
            let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            cells.join("  ").trim_end().to_owned()
        };
        (rows.len() > 1).then(|| rows.iter().map(line).collect::<Vec<_>>().join("\n"))
    }
}

fn plain(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).collect()
}
