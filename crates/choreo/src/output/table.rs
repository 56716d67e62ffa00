//! Columns of text.

use unicode_width::UnicodeWidthStr;

use super::printer::style;

/// A column of a [`Table`].
#[derive(Clone, Debug)]
pub(crate) struct Column {
    /// Its heading.
    pub(crate) title: String,
}

impl Column {
    /// A column with this heading, shown in capitals.
    pub(crate) fn new(title: impl AsRef<str>) -> Self {
        Self {
            title: title.as_ref().to_uppercase(),
        }
    }
}

/// Rows under headings, each column as wide as its widest cell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
    widths: Vec<usize>,
}

const GAP: usize = 3;

impl Table {
    /// An empty table.
    pub(crate) fn new(columns: Vec<Column>) -> Self {
        let widths = columns.iter().map(|column| column.title.width()).collect();
        Self {
            columns,
            rows: vec![],
            widths,
        }
    }

    /// Adds a row; a missing cell is empty. Line breaks and control characters are shown as spaces.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells
            .into_iter()
            .take(self.columns.len())
            .map(|cell| {
                if cell.chars().any(char::is_control) {
                    cell.replace(char::is_control, " ")
                } else {
                    cell
                }
            })
            .collect();
        for (width, cell) in self.widths.iter_mut().zip(&cells) {
            *width = (*width).max(cell.width());
        }
        self.rows.push(cells);
    }

    /// The heading line.
    pub(crate) fn heading(&self) -> String {
        let titles: Vec<String> = self.columns.iter().map(|column| column.title.clone()).collect();
        style::paint(style::BOLD, self.format(&titles, false))
    }

    /// The lines of all rows.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.rows.iter().map(|row| self.format(row, true))
    }

    /// The heading and all rows.
    pub(crate) fn render(&self) -> String {
        let mut text = self.heading() + "\n";
        for line in self.lines() {
            text += &line;
            text.push('\n');
        }
        text
    }

    /// Forgets the rows, but not how wide the columns have become: for tables that go on (`--watch`).
    pub(crate) fn clear(&mut self) {
        self.rows.clear();
    }

    fn format(&self, cells: &[String], painted: bool) -> String {
        let mut line = String::new();
        let mut owed = 0;
        for (index, cell) in cells.iter().enumerate() {
            line.extend(std::iter::repeat_n(' ', owed));
            if painted {
                line += &paint_cell(&self.columns[index].title, cell);
            } else {
                line += cell;
            }
            owed = self.widths[index] - cell.width() + GAP;
        }
        // Padding is owed, never paid after the last cell: no trailing spaces.
        line.truncate(line.trim_end().len());
        line
    }
}

/// States are coloured, everything else is left as it is.
fn paint_cell(title: &str, cell: &str) -> String {
    let style = match (title, cell) {
        ("READY" | "STATUS" | "HEALTH", "True" | "Ready" | "Healthy" | "Running" | "Active" | "Bound") => {
            style::GOOD
        }
        ("READY" | "STATUS" | "HEALTH", "False" | "Failed" | "Unhealthy" | "CrashLoopBackOff" | "Error") => {
            style::BAD
        }
        ("READY" | "STATUS" | "HEALTH", "Unknown" | "Pending" | "Progressing" | "Terminating") => style::WAIT,
        _ => return cell.to_owned(),
    };
    style::paint(style, cell)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn columns_are_aligned_and_lines_end_with_their_last_cell() {
        let mut table = Table::new(vec![
            Column::new("name"),
            Column::new("ready"),
            Column::new("age"),
        ]);
        table.row(["größer".to_owned(), "True".to_owned(), "5m".to_owned()]);
        table.row(["a".to_owned(), String::new(), String::new()]);
        assert_eq!(
            plain(&table.render()),
            "NAME     READY   AGE\ngrößer   True    5m\na\n"
        );
    }

    #[test]
    fn a_cell_stays_on_its_line() {
        let mut table = Table::new(vec![Column::new("message")]);
        table.row(["two\nlines\u{1b}[31m".to_owned()]);
        assert_eq!(plain(&table.render()), "MESSAGE\ntwo lines [31m\n");
    }
}
