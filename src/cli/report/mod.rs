//! Diagnostics as text for people: file, line, column, the offending text underlined, and hints.
//!
//! The only place that renders them. Nothing of a source text or of a name in a message reaches the terminal raw:
//! control characters (and the invisible ones that reorder text) are shown as symbols, so that a spec from a stranger
//! cannot move the cursor, change the title or hide a line.

use std::borrow::Cow;
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use crate::cli::secrets::masked;
use crate::cli::text::is_hostile;
use crate::diagnostic::{Diagnostic, Severity};

/// Columns that a snippet may take; fixed, so that the same mistake reads the same in a log and on a terminal.
const WIDTH: usize = 120;

/// The most bytes of source that the renderer is given for one diagnostic: it looks at each of them, several times.
const LINES_MAX: usize = 64 << 10;

/// Every diagnostic as text, with an empty line between two and a final newline; empty for none.
///
/// `source` is the text that the spans point into, `file_name` what the reader calls it.
pub fn render(diagnostics: &[Diagnostic], file_name: &str, source: &str, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.decor_style(DecorStyle::Ascii).term_width(WIDTH);
    let file_name = visible(file_name);
    let source = masked(source);
    let source = harmless(&source);
    let mut text = String::new();
    for diagnostic in diagnostics {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&masked(&renderer.render(&[group(diagnostic, &file_name, &source)])));
        text.push('\n');
    }
    text
}

fn group<'a>(diagnostic: &'a Diagnostic, file_name: &'a str, source: &'a str) -> Group<'a> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(visible(&diagnostic.message));
    let group = match &diagnostic.span {
        None => title.element(Origin::path(file_name)),
        Some(span) => {
            let span = first_line_of(source, span);
            let labels: Vec<_> =
                diagnostic.labels.iter().map(|(span, label)| (first_line_of(source, span), label)).collect();
            match surroundings(source, &span, labels.iter().map(|(span, _)| span)) {
                None => title.element(
                    Origin::path(file_name)
                        .line(line_number(source, span.start))
                        .char_column(source[line_start(source, span.start)..span.start].chars().count() + 1),
                ),
                Some(lines) => {
                    let place = |span: &Range<usize>| span.start - lines.start..span.end - lines.start;
                    let labels = labels
                        .iter()
                        .filter(|(span, _)| lines.start <= span.start && span.end <= lines.end)
                        .map(|(span, label)| AnnotationKind::Context.span(place(span)).label(visible(label)));
                    title.element(
                        Snippet::source(&source[lines.clone()])
                            .path(file_name)
                            .line_start(line_number(source, lines.start))
                            .annotation(AnnotationKind::Primary.span(place(&span)))
                            .annotations(labels),
                    )
                }
            }
        }
    };
    group.elements(diagnostic.hints.iter().map(|hint| Level::HELP.with_name("hint").message(visible(hint))))
}

/// Where the lines stand, from the first to the last that a diagnostic speaks of; if they are too long, the line of its own
/// place; none if that is too long, such as a spec in one line.
fn surroundings<'a>(
    source: &str,
    span: &Range<usize>,
    labels: impl Iterator<Item = &'a Range<usize>>,
) -> Option<Range<usize>> {
    let all = labels.fold(span.clone(), |all, span| all.start.min(span.start)..all.end.max(span.end));
    let lines = |span: &Range<usize>| line_start(source, span.start)..line_end(source, span.end);
    [lines(&all), lines(span)].into_iter().find(|lines| lines.len() <= LINES_MAX)
}

fn line_start(source: &str, at: usize) -> usize {
    source[..at].rfind('\n').map_or(0, |newline| newline + 1)
}

fn line_end(source: &str, at: usize) -> usize {
    source[at..].find('\n').map_or(source.len(), |newline| at + newline)
}

/// Counted from 1.
fn line_number(source: &str, at: usize) -> usize {
    source[..at].matches('\n').count() + 1
}

/// The part of `span` on its first line, inside the text and between characters.
fn first_line_of(source: &str, span: &Range<usize>) -> Range<usize> {
    let start = source.floor_char_boundary(span.start.min(source.len()));
    let end = source.ceil_char_boundary(span.end.clamp(start, source.len()));
    let end = source[start..end].find('\n').map_or(end, |at| start + at);
    start..end
}

/// A message or name with every character visible.
fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hostile) {
        return Cow::Borrowed(text);
    }
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => ' ',
            // The pictures of the control characters stand in their order in Unicode.
            '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
            '\x7f' => '\u{2421}',
            c if is_hostile(c) => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// A source text without characters that a terminal obeys, each replaced by one of the same length in bytes, so that
/// spans stay true. Tabs and the ASCII control characters are the renderer's own: it shows their pictures.
fn harmless(source: &str) -> Cow<'_, str> {
    let obeyed = |c: char| !c.is_ascii() && is_hostile(c);
    if !source.chars().any(obeyed) {
        return Cow::Borrowed(source);
    }
    source
        .chars()
        .map(|c| match c.len_utf8() {
            _ if !obeyed(c) => c,
            2 => '\u{bf}',
            3 => '\u{fffd}',
            _ => '\u{1f6ab}',
        })
        .collect()
}

#[cfg(test)]
mod tests;
