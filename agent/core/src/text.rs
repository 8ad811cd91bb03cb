//! Octets from the network as text for people, and text that others chose.

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

/// A text of any length, with what would move a cursor shown as `?`.
pub fn harmless(text: &str) -> String {
    text.chars().map(or_question_mark).collect()
}

fn or_question_mark(character: char) -> char {
    if is_printable(character) { character } else { '?' }
}

/// Not a control character, nor one of those that turn the direction of text.
fn is_printable(character: char) -> bool {
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
}
