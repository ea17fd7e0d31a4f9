//! The hash chain through a session's events.

/// A BLAKE3 digest.
pub(super) type Digest = [u8; 32];

/// The end of a session's chain: the digest of everything up to here.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    head: Digest,
    /// What is hashed, gathered in one piece because hashing one piece is faster than feeding a hasher.
    scratch: Vec<u8>,
}

impl Chain {
    /// The start of a session's chain, which binds the session's own row.
    pub(super) fn new(id: i64, player: &str, build: &str, started_ms: i64, seed: Option<i64>) -> Self {
        let mut scratch = b"bevy_skald session v1".to_vec();
        scratch.extend(id.to_le_bytes());
        scratch.extend(started_ms.to_le_bytes());
        scratch.push(u8::from(seed.is_some()));
        scratch.extend(seed.unwrap_or(0).to_le_bytes());
        for text in [player, build] {
            scratch.extend((text.len() as u64).to_le_bytes());
            scratch.extend(text.as_bytes());
        }
        Self { head: *blake3::hash(&scratch).as_bytes(), scratch }
    }

    /// The digest of everything so far.
    pub(super) fn head(&self) -> &Digest {
        &self.head
    }

    /// Adds an event and returns its digest: BLAKE3 of the digest before it and of its fields.
    pub(super) fn push(&mut self, seq: i64, t_ms: i64, kind: &str, payload: &str) -> &Digest {
        self.scratch.clear();
        self.scratch.extend(self.head);
        self.scratch.extend(seq.to_le_bytes());
        self.scratch.extend(t_ms.to_le_bytes());
        // With the kind's length in front, no two events hash the same bytes.
        self.scratch.extend((kind.len() as u64).to_le_bytes());
        self.scratch.extend(kind.as_bytes());
        self.scratch.extend(payload.as_bytes());
        self.head = *blake3::hash(&self.scratch).as_bytes();
        &self.head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_and_the_order_change_the_digest() {
        let of = |events: &[(i64, i64, &str, &str)]| {
            let mut chain = Chain::new(1, "p", "b", 2, None);
            for (seq, t, kind, payload) in events {
                chain.push(*seq, *t, kind, payload);
            }
            *chain.head()
        };
        let all = [
            of(&[]),
            of(&[(0, 5, "ab", "c")]),
            of(&[(1, 5, "ab", "c")]),
            of(&[(0, 6, "ab", "c")]),
            of(&[(0, 5, "a", "bc")]),
            of(&[(0, 5, "ab", "d")]),
            of(&[(0, 5, "ab", "c"), (1, 5, "ab", "d")]),
            of(&[(0, 5, "ab", "d"), (1, 5, "ab", "c")]),
        ];
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
        assert_eq!(of(&[(0, 5, "ab", "c")]), all[1]);
    }

    #[test]
    fn the_sessions_row_is_bound_too() {
        let head = |seed| *Chain::new(1, "p", "b", 2, seed).head();
        assert_ne!(head(None), head(Some(0)));
        assert_ne!(Chain::new(1, "pb", "", 2, None).head(), Chain::new(1, "p", "b", 2, None).head());
    }
}
