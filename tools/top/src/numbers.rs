//! Numbers as people read them.

/// With a comma before every three digits: `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time in the largest unit that leaves a digit or two before the point.
pub(crate) fn time(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0 => format!("{milliseconds} ms"),
        1..60 => format!("{}.{} s", seconds, milliseconds % 1000 / 100),
        60..3600 => format!("{}:{:02} min", seconds / 60, seconds % 60),
        3600..86400 => format!("{}:{:02} h", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d", seconds / 86400),
    }
}

/// A number of bytes in a binary unit.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    let mut value = bytes as f64 / 1024.0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    let digits = usize::from(value < 10.0);
    format!("{value:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_writes_numbers_for_people() {
        assert_eq!(
            [0, 999, 1000, 12_345, 1_234_567].map(grouped),
            ["0", "999", "1,000", "12,345", "1,234,567"]
        );
        assert_eq!(
            [0, 999, 1000, 59_999, 61_000, 3_600_000, 90_000_000].map(time),
            ["0 ms", "999 ms", "1.0 s", "59.9 s", "1:01 min", "1:00 h", "1 d"]
        );
        assert_eq!(
            [0, 1023, 1024, 15 << 20, 1 << 30].map(size),
            ["0 B", "1023 B", "1.0 KiB", "15 MiB", "1.0 GiB"]
        );
    }
}
