//! Looking at the agent for many at once: whoever asks while a look is under way shares it, and looks
//! keep a distance, so that nobody who looks, however often, can slow what is looked at.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until},
};

/// The way to look at something.
pub struct Looks<T> {
    last: Mutex<Option<Look<T>>>,
    /// From the beginning of one look to that of the next.
    distance: Duration,
    /// Whether the last one is kept when nobody needs it any more.
    keeps: bool,
}

struct Look<T> {
    begun: Instant,
    seen: Seen<T>,
}

enum Seen<T> {
    Kept(Arc<T>),
    /// As long as somebody needs it.
    Passing(Weak<T>),
}

impl<T> Seen<T> {
    fn get(&self) -> Option<Arc<T>> {
        match self {
            Seen::Kept(seen) => Some(Arc::clone(seen)),
            Seen::Passing(seen) => seen.upgrade(),
        }
    }
}

impl<T> Looks<T> {
    /// Looks that keep this distance. What was seen is kept.
    pub fn kept(distance: Duration) -> Looks<T> {
        Looks { last: Mutex::new(None), distance, keeps: true }
    }

    /// The same for what is too big to be kept.
    pub fn passing(distance: Duration) -> Looks<T> {
        Looks { last: Mutex::new(None), distance, keeps: false }
    }

    /// What was seen in a look that began this long ago or less; if there is none, `look` is used.
    ///
    /// # Errors
    ///
    /// Those of `look`.
    pub async fn no_older_than<E>(
        &self,
        age: Duration,
        look: impl Future<Output = Result<T, E>>,
    ) -> Result<Arc<T>, E> {
        let asked = Instant::now();
        // First come, first served: who waits here while another looks finds what that one has seen.
        let mut last = self.last.lock().await;
        if let Some(Look { begun, seen }) = &*last {
            if *begun + age >= asked
                && let Some(seen) = seen.get()
            {
                return Ok(seen);
            }
            sleep_until(*begun + self.distance).await;
        }
        let begun = Instant::now();
        let seen = Arc::new(look.await?);
        let kept = match self.keeps {
            true => Seen::Kept(Arc::clone(&seen)),
            false => Seen::Passing(Arc::downgrade(&seen)),
        };
        *last = Some(Look { begun, seen: kept });
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
    }

    #[test]
    fn who_asks_at_the_same_time_shares_a_look() {
        let looked = AtomicUsize::new(0);
        let looks = Looks::passing(Duration::ZERO);
        let look = async || {
            let look = async {
                tokio::task::yield_now().await;
                Ok::<_, Infallible>(looked.fetch_add(1, Ordering::Relaxed))
            };
            looks.no_older_than(Duration::ZERO, look).await.unwrap()
        };
        runtime().block_on(async {
            let seen = futures_util::future::join_all((0..100).map(|_| look())).await;
            // The first began before the others had asked; all of them share the second at most.
            assert!(looked.load(Ordering::Relaxed) <= 2, "{looked:?}");
            assert_eq!(seen.len(), 100);
        });
    }

    #[test]
    fn what_is_young_enough_is_seen_again_and_the_next_look_waits() {
        let distance = Duration::from_millis(30);
        let looks = Looks::kept(distance);
        runtime().block_on(async {
            let began = Instant::now();
            let hour = Duration::from_secs(3600);
            for (age, expected) in [(hour, 1), (hour, 1), (Duration::ZERO, 4)] {
                let look = async { Ok::<_, Infallible>(expected) };
                assert_eq!(*looks.no_older_than(age, look).await.unwrap(), expected);
            }
            assert!(began.elapsed() >= distance);
            let passing = Looks::passing(Duration::ZERO);
            for expected in [1, 2] {
                // Nobody holds what was seen, so it is gone.
                let look = async { Ok::<_, Infallible>(expected) };
                assert_eq!(*passing.no_older_than(hour, look).await.unwrap(), expected);
            }
        });
    }
}
