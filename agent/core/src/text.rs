//! Octets and text from elsewhere as text that does a terminal no harm.

use std::borrow::Cow;

/// How many characters of a name are kept.
pub const NAME_CHARACTERS: usize = 64;

/// The printable characters of a name, at most [`NAME_CHARACTERS`]; what is not UTF-8 or would
/// move a cursor is shown as `?`.
pub fn printable(octets: &[u8]) -> String {
    // Four octets make a character at most.
    let octets = &octets[..octets.len().min(4 * NAME_CHARACTERS)];
    let text = String::from_utf8_lossy(octets);
    text.trim_end_matches('\0').chars().take(NAME_CHARACTERS).map(or_question_mark).collect()
}

fn or_question_mark(character: char) -> char {
    if is_printable(character) { character } else { '?' }
}

/// The text with `?` in the place of every character that would move a cursor or turn the direction of
/// text, line feeds and tabs included.
pub fn harmless(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_printable) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(or_question_mark).collect())
}

/// Not a control character, nor one of those that turn the direction of text.
pub fn is_printable(character: char) -> bool {
    !character.is_control()
        && !matches!(
            character,
            '\u{fffd}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_does_no_harm() {
        assert_eq!(printable(b"Gi0/1\0"), "Gi0/1");
        assert_eq!(printable(b"a\x1b[2Jb\nc"), "a?[2Jb?c");
        assert_eq!(printable(&[0xff, b'x']), "?x");
        assert_eq!(printable("\u{202e}gnp".as_bytes()), "?gnp");
        assert_eq!(printable(&[b'x'; 60_000]).len(), NAME_CHARACTERS);
        let long = "x".repeat(NAME_CHARACTERS + 1);
        assert_eq!(harmless(&format!("{long}\x1b\n")), long + "??");
    }

    #[test]
    fn a_hostile_text_does_no_harm() {
        assert!(matches!(harmless("Zürich, 東京"), Cow::Borrowed("Zürich, 東京")));
        assert_eq!(harmless("a\x1b[2Jb\nc\td\u{9b}\u{7f}\u{202e}e"), "a?[2Jb?c?d???e");
    }
}
