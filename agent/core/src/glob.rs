//! Patterns with `*`, `?` and `[a-z]`, for the names of interfaces (INST-12).
//!
//! Upper and lower case are the same, as vendors differ in nothing else. Octets are compared, as
//! an ifDescr need not be text.

/// Whether the whole of `text` fits the pattern. Takes time in proportion to the product of the
/// two lengths at most.
pub fn matches(pattern: &str, text: &[u8]) -> bool {
    let pattern = pattern.as_bytes();
    let (mut p, mut t) = (0, 0);
    // Where to go on after the latest `*`, should what follows it not fit.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            retry = Some((p + 1, t));
            p += 1;
            continue;
        }
        match one(&pattern[p.min(pattern.len())..], text[t]) {
            Some(taken) => {
                p += taken;
                t += 1;
            }
            None => {
                let Some((after_star, from)) = retry else { return false };
                retry = Some((after_star, from + 1));
                (p, t) = (after_star, from + 1);
            }
        }
    }
    pattern[p.min(pattern.len())..].iter().all(|&octet| octet == b'*')
}

/// How many octets of the pattern stand for this one octet, if it fits them.
fn one(pattern: &[u8], octet: u8) -> Option<usize> {
    match *pattern.first()? {
        b'?' => Some(1),
        b'[' => match pattern.iter().position(|&end| end == b']') {
            Some(end) if end > 1 => in_class(&pattern[1..end], octet).then_some(end + 1),
            _ => (octet == b'[').then_some(1),
        },
        literal => literal.eq_ignore_ascii_case(&octet).then_some(1),
    }
}

/// Whether the octet is one of a class: single ones, and ranges such as `0-9`.
fn in_class(mut class: &[u8], octet: u8) -> bool {
    let octet = octet.to_ascii_lowercase();
    while let [first, rest @ ..] = class {
        let (low, high, rest) = match rest {
            [b'-', high, rest @ ..] => (*first, *high, rest),
            _ => (*first, *first, rest),
        };
        if (low.to_ascii_lowercase()..=high.to_ascii_lowercase()).contains(&octet) {
            return true;
        }
        class = rest;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_the_whole_name_whatever_its_case() {
        for (pattern, text, fits) in [
            ("*Dialer*", "dialer1", true),
            ("*Dialer*", "Virtual Dialer interface", true),
            ("BRI*", "BRI0:1", true),
            ("BRI*", "xBRI0", false),
            ("Di[0-9]*", "Di1", true),
            ("Di[0-9]*", "Distribution", false),
            ("Gi?/0", "gi1/0", true),
            ("Gi?/0", "gi10/0", false),
            ("[ab-d]x", "Cx", true),
            ("[", "[", true),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbXbX", false),
        ] {
            assert_eq!(matches(pattern, text.as_bytes()), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn a_hostile_name_costs_little() {
        assert!(!matches("*a*a*a*a*a*a*a*a*b", &[b'a'; 60_000]));
    }
}
