//! Problems as text: path, line, column, the line itself, a caret with its label, and help.

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::{Diagnostic, Diagnostics};

/// More problems than this are counted, not shown.
const SHOWN_MAX: usize = 50;

/// The width to which long lines are cut, in columns.
const WIDTH_COLUMNS: usize = 140;

/// The most bytes of one line that are looked at, on either side of the place.
const LINE_BYTES_MAX: usize = 4096;

impl Diagnostics {
    /// All problems, ordered by file and place, one blank line between two; `styled` adds terminal colours. The text ends
    /// in a line break unless there is no problem.
    pub fn render(&self, styled: bool) -> String {
        self.render_as(&Level::ERROR, styled)
    }

    /// The same for what may be meant as it is.
    pub fn render_warnings(&self, styled: bool) -> String {
        self.render_as(&Level::WARNING, styled)
    }

    fn render_as(&self, level: &Level<'_>, styled: bool) -> String {
        let mut sorted = self.clone();
        sorted.sort();
        let renderer = if styled { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.term_width(WIDTH_COLUMNS);
        let mut text = String::new();
        for (index, diagnostic) in sorted.0.iter().take(SHOWN_MAX).enumerate() {
            if index > 0 {
                text.push('\n');
            }
            text.push_str(&diagnostic.render(level, &renderer));
            text.push('\n');
        }
        if let Some(more) = sorted.len().checked_sub(SHOWN_MAX).filter(|&more| more > 0) {
            text.push_str(&format!("\nand {more} more\n"));
        }
        text
    }
}

impl Diagnostic {
    fn render(&self, level: &Level<'_>, renderer: &Renderer) -> String {
        let path = self.file.path.display().to_string();
        let title = level.clone().primary_title(self.message.as_str());
        let group = if self.file.text.is_empty() {
            Group::with_title(title).element(Origin::path(path))
        } else {
            let (line, within) = self.place();
            let mut annotation = AnnotationKind::Primary.span(within);
            if !self.label.is_empty() {
                annotation = annotation.label(self.label.as_str());
            }
            let number = self.file.line(self.file.boundary(self.span.start));
            let snippet = Snippet::source(line).line_start(number).path(path).annotation(annotation);
            Group::with_title(title).element(snippet)
        };
        let group = match &self.help {
            Some(help) => group.element(Level::HELP.message(help.as_str())),
            None => group,
        };
        renderer.render(&[group])
    }

    /// The line in which the span starts, and the part of the span that lies in it, as bytes of that line.
    fn place(&self) -> (&str, std::ops::Range<usize>) {
        let text = &self.file.text;
        let start = self.file.boundary(self.span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let line_end = self.file.boundary(line_end.min(start + LINE_BYTES_MAX)).max(start);
        let line = text[line_start..line_end].trim_end_matches('\r');
        let end = self.file.boundary(self.span.end).clamp(start, line_start + line.len().max(start - line_start));
        let within = (start - line_start).min(line.len())..(end - line_start).min(line.len());
        (line, within)
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::super::{Diagnostic, Diagnostics, SourceText};

    fn check(text: &str, span: Range<usize>, expected: &str) {
        let file = SourceText::new("a.yaml", text);
        let diagnostic = Diagnostic::new(&file, span, "wrong").with_label("here").with_help("mend it");
        assert_eq!(Diagnostics::from(diagnostic).render(false), expected);
    }

    #[test]
    fn a_problem_shows_its_line_and_column_behind_wide_characters() {
        check(
            "größe: 1\nüber: zwölf\n",
            18..24,
            "error: wrong\n --> a.yaml:2:7\n  |\n2 | über: zwölf\n  |       ^^^^^ here\n  |\n  = help: mend it\n",
        );
    }

    #[test]
    fn a_span_that_cuts_a_character_or_leaves_the_text_is_still_shown() {
        check("ü", 1..99, "error: wrong\n --> a.yaml:1:1\n  |\n1 | ü\n  | ^ here\n  |\n  = help: mend it\n");
        check("a\n", 50..60, "error: wrong\n --> a.yaml:2:1\n  |\n2 |\n  | ^ here\n  |\n  = help: mend it\n");
    }

    #[test]
    fn a_span_over_several_lines_is_shown_by_its_first() {
        check(
            "a:\r\n  b: 1\r\n",
            0..9,
            "error: wrong\n --> a.yaml:1:1\n  |\n1 | a:\n  | ^^ here\n  |\n  = help: mend it\n",
        );
    }

    #[test]
    fn a_file_without_text_is_named_without_a_line() {
        check("", 0..0, "error: wrong\n--> a.yaml\n = help: mend it\n");
    }

    #[test]
    fn problems_come_in_the_order_of_files_and_places_and_once() {
        let (a, b) = (SourceText::new("a", "xyz"), SourceText::new("b", "xyz"));
        let mut problems = Diagnostics::default();
        for (file, at) in [(&b, 0), (&a, 2), (&a, 1), (&a, 2)] {
            problems.push(Diagnostic::new(file, at..at + 1, "wrong"));
        }
        let text = problems.render(false);
        let places: Vec<&str> = text.lines().filter(|line| line.contains("-->")).collect();
        assert_eq!(places, [" --> a:1:2", " --> a:1:3", " --> b:1:1"]);
        assert!(problems.render(true).contains("\u{1b}["));
    }
}
