//! No message, log line or debug output shows a secret, whatever is wrong with the file around it.

use proptest::prelude::*;

use super::{super::problem::render_all, from_bytes, sample_with_every_option};

/// Every way in which a message or a log could show of a text what it holds.
fn everything_said_of(text: &[u8]) -> String {
    match from_bytes("evenkeel.toml", text) {
        Ok((config, warnings)) => {
            format!("{config:?}\n{}\n{warnings:?}", render_all(&warnings, false))
        }
        Err(errors) => {
            let rendered = errors.render(false) + &errors.render(true);
            format!("{rendered}\n{errors}\n{errors:?}")
        }
    }
}

/// Whether the secret `hunter2` is shown, or most of it; or its octets, as a Vec prints them.
fn shows(said: &str) -> bool {
    said.contains("hunt") || said.contains("nter2") || said.contains("104, 117, 110, 116")
}

/// Where a secret may stand, rightly or by mistake.
const PLACES: [&str; 19] = [
    "[[traps.community]]\nname = SECRET\n",
    "[[traps.comunity]]\nname = SECRET\n",
    "[traps]\ncommunity = [{ name = SECRET, sources = [\"10.0.0.0/8\"] }]\n",
    "[traps]\ncommunity = [\n  { sources = [\"::1\"],\n    name = SECRET }\n]\n",
    "traps.community = [{ name = SECRET }]\n",
    "[[traps.user]]\nname = \"noc\"\nauth = \"SHA\"\nauth_passphrase = SECRET\n",
    "[[traps.user]]\nname = \"noc\"\nauth_passphrase = SECRET\nauth = \"SHA\"\n",
    "[[traps.user]]\nname = \"noc\"\nauth = SECRET\n",
    "[[traps.user]]\nname = \"noc\"\nauth = \"SHA\"\nprivacy = SECRET\n",
    "[[traps.user]]\nname = \"noc\"\nauth_key = SECRET\nauth = \"MD5\"\n",
    "[[traps.user]]\nname = \"noc\"\nauth = \"SHA\"\nauth_key_file = SECRET\n",
    "[[traps.user]]\nname = \"noc\"\nauth = \"SHA\"\nauth_key_credential = SECRET\n",
    "[[traps.user]]\nname = \"noc\"\nauth = \"SHA\"\nauthpass = SECRET\n",
    "[[user]]\nname = \"noc\"\nauth = \"SHA\"\nauth_passphrase.file = SECRET\n",
    "[[notifications.target]]\naddress = \"192.0.2.9\"\ncommunity = SECRET\n",
    "[[notifications.target]]\naddres = \"192.0.2.9\"\ncommunity = SECRET # was hunter2\n",
    "[[notifications.target]]\nversion = \"v3\"\nuser = \"noc\"\nauth = \"SHA\"\n\
     auth_passphrase = SECRET\nprivacy = \"AES\"\nprivacy_passphrase = SECRET\n",
    "[[notifications.target]]\ncommunity = \"x\"\nversion = \"v3\"\n# community = SECRET\n",
    "auth_passphrase = SECRET\n",
];

/// How it may be written.
const SECRETS: [&str; 24] = [
    "\"hunter2\"",
    "'hunter2'",
    "\"hunter2hunter2\"",
    "\"\"\"\nhunter2\n\"\"\"",
    "hunter2",
    "hunter2-long = 3",
    "\"hunter2",
    "hunter2\"",
    "\"hunter2\" \"hunter2\"",
    "\"\\hunter2\"",
    "[\"hunter2\"]",
    "[\"hunter2\"",
    "{ a = \"hunter2\" }",
    "{ hunter2",
    "\"hunter2\n",
    "\n\"hunter2\"",
    "\nhunter2",
    "= \"hunter2\"",
    "\"hunter2\", \"\"",
    "\"\"\"hunter2",
    "'''hunter2\naddress = hunter2",
    "\"hunter2\u{0}\"",
    "\u{201c}hunter2\u{201d}",
    "# \"hunter2\"",
];

/// What else may be wrong in the file.
const MISTAKES: [&str; 7] =
    ["", "[web]\nenabled = 1\n", "listen = \n", "= 3\n", "[web\n", "x = \"\n", "[web]\n[web]\n"];

#[test]
fn a_secret_never_gets_into_a_message() {
    for place in PLACES {
        for secret in SECRETS {
            for mistake in MISTAKES {
                let place = place.replace("SECRET", secret);
                for text in [format!("{place}{mistake}"), format!("{mistake}{place}")] {
                    let said = everything_said_of(text.as_bytes());
                    assert!(!shows(&said), "of\n{text}\nthis is said:\n{said}");
                }
            }
            for slip in [" =", "\"", "]"] {
                let text = place.replace("SECRET", secret).replacen(slip, "", 1);
                let said = everything_said_of(text.as_bytes());
                assert!(!shows(&said), "of\n{text}\nthis is said:\n{said}");
            }
        }
    }
}

proptest! {
    /// The sample's secrets, where chance changes the lines around them.
    #[test]
    fn no_slip_of_the_pen_shows_a_secret(
        changes in proptest::collection::vec(
            (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0u8..4), 1..4),
    ) {
        let sample = sample_with_every_option()
            .replace("correct horse battery", "hunter2 hunter2")
            .replace("staple correct horse", "hunter2 hunter2")
            .replace("name = \"public\"", "name = \"hunter2\"")
            .replace("community = \"public\"", "community = \"hunter2\"");
        let mut lines: Vec<String> = sample.lines().map(str::to_owned).collect();
        let hidden = |line: &String| line.contains("hunter");
        let near: Vec<usize> = (0..lines.len())
            .filter(|at| {
                let around = at.saturating_sub(1)..(at + 2).min(lines.len());
                lines[around].iter().any(hidden)
            })
            .collect();
        for (line, at, kind) in changes {
            let line = &mut lines[near[line.index(near.len())]];
            let at = at.index(line.len() + 1);
            match kind {
                0 if at < line.len() => { line.remove(at); }
                1 => line.insert(at, '"'),
                2 => line.push_str(" ="),
                _ => line.insert(0, '['),
            }
        }
        let text = lines.join("\n");
        let said = everything_said_of(text.as_bytes());
        prop_assert!(!shows(&said), "of\n{}\nthis is said:\n{}", text, said);
    }
}
