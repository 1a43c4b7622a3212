//! A screen as SVG.

use std::fmt::Write as _;

/// The width and the height of a cell.
const CELL: (usize, usize) = (8, 17);
const SIZE: f64 = 13.3;
const BASELINE: usize = 13;
const MARGIN: usize = 12;
const PAPER: &str = "#1b1e24";
const INK: &str = "#d7dae0";

#[derive(Clone, Copy, PartialEq, Default)]
struct Style {
    colour: Option<&'static str>,
    is_bold: bool,
    is_dim: bool,
    is_reversed: bool,
}

/// Text of one style, and the column in which it begins.
struct Run {
    column: usize,
    text: String,
    style: Style,
}

/// The lines of a screen.
pub(crate) struct Picture(Vec<Vec<Run>>);

impl Picture {
    /// From what tmux captures: text, and sequences that set the style. Any other sequence is a panic.
    pub(crate) fn of(captured: &str) -> Picture {
        let mut style = Style::default();
        let line = |text: &str| {
            let mut runs: Vec<Run> = Vec::new();
            let (mut chars, mut column) = (text.chars(), 0);
            while let Some(char) = chars.next() {
                if char == '\u{1b}' {
                    assert_eq!(chars.next(), Some('['), "{text:?}");
                    let numbers: String = chars.by_ref().take_while(|char| *char != 'm').collect();
                    style.set(&numbers);
                    continue;
                }
                match runs.last_mut() {
                    Some(run) if run.style == style => run.text.push(char),
                    _ => runs.push(Run { column, text: char.into(), style }),
                }
                column += 1;
            }
            runs
        };
        Picture(captured.trim_end_matches('\n').split('\n').map(line).collect())
    }

    pub(crate) fn svg(&self) -> String {
        let end =
            |line: &Vec<Run>| line.last().map_or(0, |run| run.column + run.text.chars().count());
        let columns = self.0.iter().map(end).max().unwrap_or(0);
        let width = columns * CELL.0 + 2 * MARGIN;
        let height = self.0.len() * CELL.1 + 2 * MARGIN;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" font-family=\"monospace\" font-size=\"{SIZE}\" \
             fill=\"{INK}\">\n<title>coro top</title>\n\
             <rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"{PAPER}\"/>\n"
        );
        for (row, line) in self.0.iter().enumerate() {
            let top = MARGIN + row * CELL.1;
            let _ = writeln!(svg, "<g>");
            line.iter().for_each(|run| run.write(top, &mut svg));
            let _ = writeln!(svg, "</g>");
        }
        svg + "</svg>\n"
    }
}

impl Style {
    /// The colours are those that the program uses, in both forms that a terminal may keep them in.
    fn set(&mut self, numbers: &str) {
        let numbers = numbers.replace("38;5;", "3");
        for number in numbers.split(';') {
            match number {
                "" | "0" => *self = Style::default(),
                "1" => self.is_bold = true,
                "2" => self.is_dim = true,
                "7" => self.is_reversed = true,
                "22" => (self.is_bold, self.is_dim) = (false, false),
                "27" => self.is_reversed = false,
                "31" => self.colour = Some("#f07178"),
                "32" => self.colour = Some("#98c379"),
                "33" => self.colour = Some("#e5c07b"),
                "36" => self.colour = Some("#56b6c2"),
                "39" => self.colour = None,
                // The ground, which is never another.
                "49" => {}
                _ => panic!("an unknown style: {number} of {numbers}"),
            }
        }
    }
}

impl Run {
    fn write(&self, top: usize, svg: &mut String) {
        let (x, cells) = (MARGIN + self.column * CELL.0, self.text.chars().count());
        let width = cells * CELL.0;
        let Style { colour, is_bold, is_dim, is_reversed } = self.style;
        let mut attributes = String::new();
        if is_reversed {
            let paper = colour.unwrap_or(INK);
            let height = CELL.1;
            let _ = writeln!(
                svg,
                "<rect x=\"{x}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" fill=\"{paper}\"/>"
            );
            attributes += &format!(" fill=\"{PAPER}\"");
        } else if let Some(colour) = colour {
            attributes += &format!(" fill=\"{colour}\"");
        }
        if is_bold {
            attributes += " font-weight=\"bold\"";
        }
        if is_dim {
            attributes += " opacity=\"0.65\"";
        }
        // Fonts differ in width, and columns are to stand. So each piece between two blanks has its place.
        let baseline = top + BASELINE;
        for (column, text) in pieces(&self.text) {
            let (x, width) = (x + column * CELL.0, text.chars().count() * CELL.0);
            let text = text.replace('&', "&amp;").replace('<', "&lt;");
            let _ = writeln!(
                svg,
                "<text x=\"{x}\" y=\"{baseline}\" textLength=\"{width}\" \
                 lengthAdjust=\"spacingAndGlyphs\"{attributes}>{text}</text>"
            );
        }
    }
}

/// What stands between two or more blanks, and the column in which it begins.
fn pieces(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut column = 0;
    let pieces = text.split("  ").map(move |piece| {
        let blanks = piece.chars().take_while(|char| *char == ' ').count();
        let at = column + blanks;
        column += piece.chars().count() + 2;
        (at, piece.trim())
    });
    pieces.filter(|(_, piece)| !piece.is_empty())
}

/// The lines of text of a picture.
pub(crate) fn lines_of(svg: &str) -> Vec<String> {
    let text = |line: &str| {
        let (_, rest) = line.strip_prefix("<text ")?.split_once('>')?;
        Some(rest.strip_suffix("</text>")?.replace("&lt;", "<").replace("&amp;", "&"))
    };
    let line = |group: &str| group.lines().filter_map(text).collect::<Vec<_>>().join("  ");
    svg.split("<g>").skip(1).map(line).collect()
}

/// Checks that the screen has each line of the picture, but for what differs from run to run: numbers and their units,
/// and what a worker does.
#[track_caller]
pub(crate) fn assert_alike(picture: &[String], screen: &str) {
    const VOLATILE: [&str; 12] =
        ["ms", "s", "min", "h", "KiB", "MiB", "GiB", "asleep", "coroutine", "looks", "for", "work"];
    let words = |line: &str| -> Vec<String> {
        let is_steady = |word: &&str| {
            word.chars().all(|char| char.is_ascii_graphic() || char == '\u{2193}')
                && !word.contains(|char: char| char.is_ascii_digit())
                && !VOLATILE.contains(word)
        };
        line.split_whitespace().filter(is_steady).map(str::to_owned).collect()
    };
    let there: Vec<_> = screen.lines().map(words).collect();
    assert!(picture.len() > 15, "the picture is of a screen");
    for line in picture {
        let expected = words(line);
        assert!(
            there.contains(&expected),
            "the picture has {expected:?}, and the screen\n{screen}"
        );
    }
}
