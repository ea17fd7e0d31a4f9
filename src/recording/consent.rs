//! [`Consent`], and the switch that a player's events pass on their way to the store.

use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU32, Ordering};

/// Whether a player may be recorded. Nothing is written without it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Consent {
    /// Nothing is written. What a player who said nothing gets.
    #[default]
    Denied,
    /// What the player does is written until they withdraw.
    Granted,
}

/// A player's consent at this moment, shared by the game's threads and the writer.
///
/// It counts the changes, odd being granted. An event carries the count it was recorded under, and the writer
/// discards it unless the count is still the same. So a withdrawal also stops what is queued, even when
/// consent is granted again before the writer comes to it.
#[derive(Debug)]
pub(super) struct Permission(AtomicU32);

impl Permission {
    pub(super) fn new(consent: Consent) -> Self {
        Self(AtomicU32::new(u32::from(consent == Consent::Granted)))
    }

    /// The stamp for an event, or `None` without consent.
    pub(super) fn stamp(&self) -> Option<u32> {
        let count = self.0.load(Ordering::Acquire);
        (count % 2 == 1).then_some(count)
    }

    /// Whether an event stamped so may still be written.
    pub(super) fn holds(&self, stamp: u32) -> bool {
        self.stamp() == Some(stamp)
    }

    pub(super) fn consent(&self) -> Consent {
        if self.stamp().is_some() { Consent::Granted } else { Consent::Denied }
    }

    pub(super) fn set(&self, consent: Consent) {
        let wanted = u32::from(consent == Consent::Granted);
        let change = |count: u32| (count % 2 != wanted).then(|| count.wrapping_add(1));
        // An error means that nothing had to change.
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_withdrawal_voids_what_was_stamped_before_even_after_a_new_grant() {
        let permission = Permission::new(Consent::default());
        assert_eq!(permission.stamp(), None);
        permission.set(Consent::Granted);
        permission.set(Consent::Granted);
        let stamp = permission.stamp().unwrap();
        assert!(permission.holds(stamp));
        permission.set(Consent::Denied);
        assert!(!permission.holds(stamp));
        permission.set(Consent::Granted);
        assert!(!permission.holds(stamp));
        assert_eq!(permission.consent(), Consent::Granted);
    }
}
