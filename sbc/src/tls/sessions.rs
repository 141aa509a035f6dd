//! Sessions that may be resumed (RFC 8446 §2.2), so that telephones which come back after an outage cost no signature. They
//! are kept by name in memory: there is no ticket key, here or elsewhere, that would open what was recorded. One for each
//! listener, for clients that show no certificate; a peer's certificate is judged at every handshake.
//!
//! TLS 1.3 only: a resumed session has keys of a new exchange, and each name opens it once. In TLS 1.2 what is kept would be
//! the secret of the old connection itself, and open it to whoever takes the process: that costs a signature instead.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustls::server::StoresServerSessions;
use zeroize::Zeroizing;

/// How long a session may be resumed: what rustls tells the client.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Most octets of a session that is kept. Without a client's certificates it has some 150.
const OCTETS: usize = 512;

struct Kept {
    name: Vec<u8>,
    since: Instant,
    octets: Zeroizing<Vec<u8>>,
}

#[derive(Default)]
struct State {
    by_age: BTreeMap<u64, Kept>,
    by_name: BTreeMap<Vec<u8>, u64>,
    last: u64,
}

impl State {
    fn remove(&mut self, number: u64) -> Option<Kept> {
        let kept = self.by_age.remove(&number)?;
        self.by_name.remove(&kept.name);
        Some(kept)
    }

    /// Forgets what is too old, and the oldest beyond `most`.
    fn expire(&mut self, now: Instant, most: usize) {
        while let Some((&oldest, kept)) = self.by_age.first_key_value() {
            if self.by_age.len() <= most && now.saturating_duration_since(kept.since) < LIFETIME {
                return;
            }
            self.remove(oldest);
        }
    }
}

/// A bounded store of sessions; what leaves it is overwritten.
pub struct Sessions {
    most: usize,
    state: Mutex<State>,
}

impl Sessions {
    /// At most so many.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            most,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_at(&self, now: Instant, name: Vec<u8>, octets: Vec<u8>) -> bool {
        let octets = Zeroizing::new(octets);
        if octets.len() > OCTETS || self.most == 0 {
            return false;
        }
        let mut state = self.lock();
        if let Some(&earlier) = state.by_name.get(&name) {
            state.remove(earlier);
        }
        state.expire(now, self.most - 1);
        state.last += 1;
        let number = state.last;
        state.by_name.insert(name.clone(), number);
        let kept = Kept {
            name,
            since: now,
            octets,
        };
        state.by_age.insert(number, kept);
        true
    }

    fn take_at(&self, now: Instant, name: &[u8]) -> Option<Vec<u8>> {
        let mut state = self.lock();
        state.expire(now, self.most);
        let number = *state.by_name.get(name)?;
        Some(state.remove(number)?.octets.to_vec())
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sessions({})", self.most)
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, name: Vec<u8>, octets: Vec<u8>) -> bool {
        self.put_at(Instant::now(), name, octets)
    }

    /// TLS 1.2 asks so.
    fn get(&self, _name: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn take(&self, name: &[u8]) -> Option<Vec<u8>> {
        self.take_at(Instant::now(), name)
    }

    /// Whether TLS 1.2 may give its sessions names.
    fn can_cache(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_taken_once_and_not_after_its_day() {
        let (sessions, now) = (Sessions::new(4), Instant::now());
        assert!(sessions.put_at(now, b"a".to_vec(), b"secret".to_vec()));
        assert_eq!(sessions.get(b"a"), None, "not over TLS 1.2");
        assert_eq!(sessions.take_at(now, b"a"), Some(b"secret".to_vec()));
        assert_eq!(sessions.take_at(now, b"a"), None);
        assert!(sessions.put_at(now, b"b".to_vec(), b"secret".to_vec()));
        assert_eq!(sessions.take_at(now + LIFETIME, b"b"), None);
    }

    #[test]
    fn the_store_is_bounded_and_the_oldest_goes_first() {
        let (sessions, now) = (Sessions::new(3), Instant::now());
        for name in 0..100u8 {
            assert!(sessions.put_at(now, vec![name], vec![name]));
            assert!(sessions.lock().by_age.len() <= 3);
        }
        assert!(sessions.put_at(now, vec![99], vec![7]), "its name again");
        let state = sessions.lock();
        assert_eq!((state.by_age.len(), state.by_name.len()), (3, 3));
        drop(state);
        assert_eq!(sessions.take_at(now, &[96]), None);
        assert_eq!(sessions.take_at(now, &[97]), Some(vec![97]));
        assert_eq!(sessions.take_at(now, &[99]), Some(vec![7]));
        assert!(!sessions.put_at(now, vec![1], vec![0; OCTETS + 1]));
        assert!(!Sessions::new(0).put_at(now, vec![1], vec![1]));
    }
}
