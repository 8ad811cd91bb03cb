//! The small picture of an episode: its traps over time, since when it lasts, and when it will be over.
//!
//! ```text
//!   | || |   ||  ░░░░░░░░│░░░░░░░░
//!   first        last    now      stable, if nothing more comes
//! ```

use maud::{Markup, html};

use super::shown;
use crate::status::{Status, UnstableStatus};

/// The size of the drawing.
const WIDTH: f64 = 240.0;
const HEIGHT: f64 = 28.0;

/// Where its line is, and how high above it a tick may be.
const BASE: f64 = 24.0;
const TALLEST: f64 = 21.0;

/// How thick the line is, and how high above it the tick of one trap: well above the line.
const THICK: f64 = 5.0;
const SHORTEST: f64 = 12.0;

/// Draws an episode with the moments of its traps that were seen: seconds after *first*, and how many
/// traps came since the one before.
pub fn episode(status: &Status, unstable: &UnstableStatus, moments: &[(f64, u64)]) -> Markup {
    let UnstableStatus { first_seconds_ago: now, last_seconds_ago, clears_in_seconds, .. } =
        *unstable;
    let last = (now - last_seconds_ago).max(0.0);
    let whole = (now + clears_in_seconds.max(0.0)).max(0.001);
    let x =
        |seconds: f64| format!("{:.1}", (seconds / whole).clamp(0.0, 1.0) * (WIDTH - 4.0) + 2.0);
    let length = |from: f64, to: f64| {
        let part = ((to - from) / whole).clamp(0.0, 1.0);
        format!("{:.1}", part * (WIDTH - 4.0))
    };
    // What came between two looks is one tick, the taller the more it was.
    let tick = |traps: u64| {
        let tall = (SHORTEST + 3.0 * (traps as f64).log2()).clamp(SHORTEST, TALLEST);
        format!("{:.1}", BASE - tall)
    };
    let base = format!("{BASE:.1}");
    let words = in_words(status, unstable);
    html! {
        svg.episode viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(words) {
            rect.unstable-time x=(x(0.0)) y=(BASE - THICK) width=(length(0.0, last)) height=(THICK) {}
            rect.waiting x=(x(last)) y=(BASE - THICK) width=(length(last, whole)) height=(THICK) {}
            line.base x1="2" y1=(base) x2=(WIDTH - 2.0) y2=(base) {}
            line.tick x1=(x(0.0)) y1=(tick(1)) x2=(x(0.0)) y2=(base) {}
            @for (at, traps) in moments {
                line.tick x1=(x(*at)) y1=(tick(*traps)) x2=(x(*at)) y2=(base) {}
            }
            line.tick x1=(x(last)) y1=(tick(1)) x2=(x(last)) y2=(base) {}
            line.now x1=(x(now)) y1="2" x2=(x(now)) y2=(HEIGHT - 2.0) {}
        }
    }
}

/// What the picture shows, for who does not see it.
fn in_words(status: &Status, unstable: &UnstableStatus) -> String {
    let at = |seconds: f64| {
        let moment = shown::moved(&status.agent.at, seconds);
        moment.get(11..19).unwrap_or_default().to_owned()
    };
    format!(
        "{} traps from {} to {}; stable at {} if nothing more comes",
        unstable.traps,
        at(-unstable.first_seconds_ago),
        at(-unstable.last_seconds_ago),
        at(unstable.clears_in_seconds),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_episode_is_drawn_from_first_to_stable() {
        let sample = include_str!("../status/testdata/wrong.json");
        let mut status: Status = serde_json::from_str(sample).unwrap();
        let unstable = status.unstable[0].clone();
        let drawn = episode(&status, &unstable, &[(2.0, 2), (4.83, 5)]).into_string();
        let words = "7 traps from 03:28:17 to 03:28:22; stable at 03:28:27 if nothing more comes";
        assert!(drawn.contains(words), "{drawn}");
        assert_eq!(drawn.matches("class=\"tick\"").count(), 4);
        // 8.03 s of 9.83 s have gone by.
        assert!(drawn.contains("class=\"now\" x1=\"194.8\""), "{drawn}");
        // What can't be, a clock that was set perhaps, is drawn inside of the picture all the same.
        let odd = &mut status.unstable[0];
        (odd.first_seconds_ago, odd.last_seconds_ago, odd.clears_in_seconds) = (0.0, 9.0, -3.0);
        let drawn = episode(&status, &status.unstable[0], &[(1e9, u64::MAX)]).into_string();
        assert!(!drawn.contains("NaN") && !drawn.contains("x1=\"-"), "{drawn}");
    }
}
