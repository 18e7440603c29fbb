//! Lists.

use charly_ir::message::DeployState;

/// Lays rows out in columns as wide as their widest cell; the last one is as long as it likes.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Writes a number of things.
pub(crate) fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Says in a word whether all of a deploy is there.
pub(crate) fn state_word(state: DeployState) -> &'static str {
    match state {
        DeployState::Complete => "complete",
        DeployState::Interrupted => "interrupted",
        DeployState::UndoPending => "undo pending",
    }
}

/// Writes a time as `YYYY-MM-DD HH:MM` in UTC.
pub(crate) fn when(seconds: u64) -> String {
    let (year, month, day) = date(seconds / 86_400);
    let minutes = seconds % 86_400 / 60;
    format!("{year}-{month:02}-{day:02} {:02}:{:02}", minutes / 60, minutes % 60)
}

/// Returns year, month and day of a day counted from 1970-01-01.
fn date(mut day: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    while day >= days_of(year) {
        day -= days_of(year);
        year += 1;
    }
    let february = if days_of(year) == 366 { 29 } else { 28 };
    let mut month = 1;
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    (year, month, day + 1)
}

/// Writes a time as a candy's version: year, day of the year, time of day, in UTC.
pub(crate) fn calver(seconds: u64) -> String {
    let mut day = seconds / 86_400;
    let mut year = 1970;
    while day >= days_of(year) {
        day -= days_of(year);
        year += 1;
    }
    let minutes = seconds % 86_400 / 60;
    format!("{year}.{:03}.{:02}{:02}", day + 1, minutes / 60, minutes % 60)
}

fn days_of(year: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    if leap { 366 } else { 365 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_end_without_blanks() {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect();
        let rows = [row(&["a", "bü", "c"]), row(&["long", "x", ""])];
        assert_eq!(columns(&rows), "a     bü  c\nlong  x\n");
        assert_eq!(columns(&[]), "");
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, time, version) in [
            (0, "1970-01-01 00:00", "1970.001.0000"),
            (951_782_400, "2000-02-29 00:00", "2000.060.0000"),
            (1_735_689_599, "2024-12-31 23:59", "2024.366.2359"),
            (1_781_429_400, "2026-06-14 09:30", "2026.165.0930"),
        ] {
            assert_eq!((when(seconds).as_str(), calver(seconds).as_str()), (time, version));
        }
    }
}
