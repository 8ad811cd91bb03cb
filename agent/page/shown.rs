//! Text from elsewhere, as a page shows it: what devices and files say of themselves may be long, and may
//! hold characters that turn a line around or are not seen. Maud escapes what HTML would take for its own.

use std::borrow::Cow;

use evenkeel_core::text;
use jiff::Timestamp;
use maud::{Markup, html};
use unicode_width::UnicodeWidthChar;

/// How many characters of a text are shown: more than any that is meant to be read.
const SHOWN: usize = 200;

/// How many marks a character may have: more are piled up into other lines.
const MARKS: usize = 2;

/// The text, cut with an ellipsis if it is long, harmless in any case.
pub fn cut(text: &str) -> String {
    let mut marks = 0;
    let fits = |character: &char| {
        marks = if character.width() == Some(0) { marks + 1 } else { 0 };
        marks <= MARKS
    };
    let mut characters = text.chars();
    let mut shown: String = characters.by_ref().take(SHOWN).filter(fits).collect();
    if characters.next().is_some() {
        shown.push('…');
    }
    match text::harmless(&shown) {
        Cow::Borrowed(_) => shown,
        Cow::Owned(harmless) => harmless,
    }
}

/// The same for text of several lines: each is cut, and there are so many at most.
pub fn cut_lines(text: &str, most: usize) -> String {
    let mut lines = text.lines();
    let mut shown: Vec<String> = lines.by_ref().take(most).map(cut).collect();
    if lines.next().is_some() {
        shown.push("…".to_owned());
    }
    shown.join("\n")
}

/// What may stand in an id: other characters become a dash.
pub fn id(text: &str) -> String {
    let kept = |character: char| if character.is_ascii_alphanumeric() { character } else { '-' };
    text.chars().take(SHOWN).map(kept).collect()
}

/// A moment in UTC, as it was told.
pub fn time(at: &str) -> Markup {
    match at.parse::<Timestamp>() {
        Ok(moment) => html! {
            time datetime=(at) { (moment.strftime("%m-%d %H:%M:%S")) }
        },
        Err(_) => html! { (cut(at)) },
    }
}

/// The same, with room for how long ago that is, which the page counts itself.
pub fn since(at: &str) -> Markup {
    html! { (time(at)) " " span.ago data-since=(at) {} }
}

/// A moment so many seconds before or after another.
pub fn moved(at: &str, seconds: f64) -> String {
    let Ok(moment) = at.parse::<Timestamp>() else { return at.to_owned() };
    let milliseconds = moment.as_millisecond().saturating_add((seconds * 1e3) as i64);
    Timestamp::from_millisecond(milliseconds).map_or(at.to_owned(), |at| format!("{at:.3}"))
}

/// A moment to the second, as what is computed from an age differs in its milliseconds each time.
pub fn whole(at: &str) -> String {
    at.get(..19).map_or(at.to_owned(), |second| format!("{second}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_or_hostile_does_no_harm() {
        let long = "x".repeat(64 << 10);
        assert_eq!(cut(&long).chars().count(), SHOWN + 1);
        assert!(cut(&long).ends_with("x…"));
        assert_eq!(cut(&"ü".repeat(SHOWN)), "ü".repeat(SHOWN));
        assert_eq!(cut("a\x1b[2J\u{202e}b\n"), "a?[2J?b?");
        assert_eq!(cut(&format!("e{}x", "\u{301}".repeat(30))), "e\u{301}\u{301}x");
        let markup = html! { (cut("<script>alert('\"')</script>")) };
        assert_eq!(markup.into_string(), "&lt;script&gt;alert('&quot;')&lt;/script&gt;");
        assert_eq!(cut_lines(&format!("a\n{long}\nc\nd"), 2).lines().count(), 3);
        assert_eq!(id("10.0.0.1 \"><b>"), "10-0-0-1----b-");
    }

    #[test]
    fn moments_are_told_in_utc() {
        let at = "2026-11-22T03:28:26.011Z";
        let expected = "<time datetime=\"2026-11-22T03:28:26.011Z\">11-22 03:28:26</time>";
        assert_eq!(time(at).into_string(), expected);
        assert_eq!(moved(at, -26.011), "2026-11-22T03:28:00.000Z");
        assert_eq!(time("<b>").into_string(), "&lt;b&gt;");
    }
}
