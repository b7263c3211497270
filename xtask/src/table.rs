//! Plain tables: columns padded with spaces, numbers to the right.

/// Renders a header, a rule and the rows. The last column is not padded.
pub(crate) fn render(header: &[&str], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = header
        .iter()
        .enumerate()
        .map(|(column, title)| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|cell| cell.chars().count())
                .chain([title.chars().count()])
                .max()
                .unwrap_or(0)
        })
        .collect();
    let titles: Vec<String> = header.iter().map(|&title| title.to_owned()).collect();
    let rule: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
    [titles, rule]
        .iter()
        .chain(rows)
        .map(|row| line(row, &widths, rows))
        .collect()
}

fn line(row: &[String], widths: &[usize], rows: &[Vec<String>]) -> String {
    let cells: Vec<String> = row
        .iter()
        .zip(widths)
        .enumerate()
        .map(|(column, (cell, &width))| {
            if is_numeric(rows, column) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        })
        .collect();
    format!("{}\n", cells.join("  ").trim_end())
}

fn is_numeric(rows: &[Vec<String>], column: usize) -> bool {
    let mut cells = rows.iter().filter_map(|row| row.get(column)).peekable();
    cells.peek().is_some() && cells.all(|cell| cell.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|&cell| cell.to_owned()).collect()
    }

    #[test]
    fn words_go_left_and_numbers_go_right() {
        let rows = [row(&["fmt", "0.5 s"]), row(&["clippy", "12.0 s"])];
        let expected = "step      time\n------  ------\nfmt      0.5 s\nclippy  12.0 s\n";
        assert_eq!(render(&["step", "time"], &rows), expected);
    }

    #[test]
    fn width_is_counted_in_characters() {
        let rows = [row(&["é…", "x"]), row(&["abc", "y"])];
        assert_eq!(
            render(&["a", "b"], &rows),
            "a    b\n---  -\né…   x\nabc  y\n"
        );
    }

    #[test]
    fn a_table_without_rows_is_its_header() {
        assert_eq!(render(&["a"], &[]), "a\n-\n");
    }
}
