//! The store: counts and pages, checks, erasures.

use super::Clerk;
use crate::error::{Error, Result};
use crate::inspector::layout::Panel;
use crate::inspector::panels::{EVENTS, SESSIONS};
use crate::inspector::request::{Erase, Job};
use crate::inspector::snapshot::{Snapshot, StoreView};
use crate::recording::{SessionId, Store, erase_player, retain};
use std::path::PathBuf;

/// How many players are listed.
const PLAYERS: u32 = 200;

/// The open store.
#[derive(Default)]
pub(super) struct Shelf(Option<Store>);

fn of_store(change: impl FnOnce(&mut StoreView) + Send + 'static) -> impl FnOnce(&mut Snapshot) + Send {
    move |snapshot| change(snapshot.store.get_or_insert_default())
}

impl Clerk {
    fn store_path(&self) -> Result<PathBuf> {
        let path = self.places.store.clone().unwrap_or_default();
        if path.is_file() {
            return Ok(path);
        }
        Err(Error::Recording {
            file: path,
            reason: "the store is not there (any more)".into(),
            remedy: "put it back, or open another one, and choose Refresh".into(),
        })
    }

    /// The store, opened again where it vanished meanwhile.
    fn open(&mut self) -> Result<&Store> {
        let path = match self.store_path() {
            Ok(path) => path,
            Err(error) => {
                self.store.0 = None;
                return Err(error);
            }
        };
        let open = self.store.0.take().map_or_else(|| Store::open_read(&path), Ok)?;
        Ok(self.store.0.insert(open))
    }

    /// Shows the newest page at once, and the counts, which read all events, when they are there.
    pub(super) fn open_store(&mut self) -> Result<()> {
        self.store.0 = None;
        let store = self.open()?;
        let sessions = store.sessions_page("", 0, SESSIONS as u32)?;
        let players = store.players_page(0, PLAYERS)?;
        let path = self.store_path()?;
        self.teller.tell(move |snapshot| {
            snapshot.errors.remove(&Panel::Recordings);
            let store = snapshot.store.get_or_insert_default();
            (store.path, store.sessions, store.players, store.skipped) = (path, sessions, players, 0);
        });
        let stats = self.open()?.stats()?;
        self.teller.tell(of_store(move |store| store.stats = Some(stats)));
        Ok(())
    }

    pub(super) fn sessions(&mut self, skipped: u64) -> Result<()> {
        let sessions = self.open()?.sessions_page("", skipped, SESSIONS as u32)?;
        self.teller.tell(of_store(move |store| (store.sessions, store.skipped) = (sessions, skipped)));
        Ok(())
    }

    pub(super) fn events(&mut self, session: SessionId, from: u64, kind: &str) -> Result<()> {
        let events = self.open()?.events_page(
            session,
            Some(kind).filter(|kind| !kind.is_empty()),
            from,
            EVENTS as u32,
        )?;
        self.teller.tell(of_store(move |store| (store.session, store.events) = (Some(session), events)));
        Ok(())
    }

    pub(super) fn verify(&mut self) {
        let path = self.store_path();
        self.spawn(Job::Verify, Panel::Recordings, move |teller, _| {
            let verified = Store::open_read(path?)?.verify(None);
            let found = verified.as_ref().ok().copied();
            teller.tell(of_store(move |store| store.verified = found));
            verified.map(drop)
        });
    }

    pub(super) fn erase(&mut self, what: &Erase) -> Result<()> {
        let path = self.store_path()?;
        // Our own reading would keep the old pages alive.
        self.store.0 = None;
        let erased = match what {
            Erase::Player(player) => erase_player(&path, player)?,
            Erase::OlderThan(days) => retain(&path, *days)?,
        };
        self.teller.tell(move |snapshot| {
            let text = format!("{} events of {} sessions are erased", erased.events, erased.sessions);
            snapshot.notes.insert(Panel::Privacy, text);
            let store = snapshot.store.get_or_insert_default();
            // What was on the screen may have been theirs.
            (store.session, store.events, store.verified) = (None, Vec::new(), None);
        });
        self.open_store()
    }
}
