//! [`PrefixCache`]: pages of what sequences have in common, computed once.
//!
//! A full page of the KV cache is named by everything before and in it (as in vLLM's automatic prefix caching, Kwon et al.
//! 2023), so whoever comes with the same beginning goes on from there: lore, persona, the talk so far.

use crate::model::{KvCache, KvPage, LoadedAdapter};
use std::collections::HashMap;

/// Names a page: a hash of all tokens up to its end, and of what changes the model.
pub(super) type Key = [u8; 32];

/// What comes before the first page.
pub(super) fn root(adapter: Option<&LoadedAdapter>) -> Key {
    adapter.map_or([0; 32], LoadedAdapter::hash)
}

/// The page of these tokens after another one.
pub(super) fn child(before: &Key, tokens: &[u32]) -> Key {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before);
    tokens.iter().for_each(|token| {
        hasher.update(&token.to_le_bytes());
    });
    *hasher.finalize().as_bytes()
}

/// The names of the full pages of a sequence.
pub(super) fn keys(adapter: Option<&LoadedAdapter>, tokens: &[u32]) -> Vec<Key> {
    let pages = tokens.chunks_exact(KvCache::PAGE);
    let next = |before: &mut Key, tokens: &[u32]| {
        *before = child(before, tokens);
        Some(*before)
    };
    pages.scan(root(adapter), next).collect()
}

struct Entry {
    page: KvPage,
    used: u64,
}

/// Pages that are kept for whoever begins alike.
#[derive(Default)]
pub(super) struct PrefixCache {
    pages: HashMap<Key, Entry>,
    clock: u64,
}

impl PrefixCache {
    pub(super) fn get(&mut self, key: &Key) -> Option<KvPage> {
        self.clock += 1;
        let entry = self.pages.get_mut(key)?;
        entry.used = self.clock;
        Some(entry.page.clone())
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        self.pages.contains_key(key)
    }

    pub(super) fn put(&mut self, key: Key, page: KvPage) {
        self.clock += 1;
        let used = self.clock;
        self.pages.entry(key).or_insert(Entry { page, used });
    }

    /// How many pages are kept that no sequence uses.
    pub(super) fn unused(&self) -> usize {
        self.pages.values().filter(|entry| entry.page.is_alone()).count()
    }

    /// Lets go of up to `count` pages that no sequence uses, those first that were not used for the longest time. Returns
    /// how many went.
    pub(super) fn evict(&mut self, count: usize) -> usize {
        let alone = self.pages.iter().filter(|(_, entry)| entry.page.is_alone());
        let mut oldest: Vec<(u64, Key)> = alone.map(|(key, entry)| (entry.used, *key)).collect();
        oldest.sort_unstable();
        oldest.truncate(count);
        oldest.iter().for_each(|(_, key)| {
            self.pages.remove(key);
        });
        oldest.len()
    }
}
