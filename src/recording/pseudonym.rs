//! [`Secret`]: the key behind a store's pseudonyms, kept in a file of its own beside the store.

use crate::error::{Error, Result};
use crate::files::read_limited;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The 32-byte key of a store's pseudonyms.
///
/// With it the same player has the same pseudonym in all sessions of a store; without it, a pseudonym cannot
/// be tied to a player. It lives in `<store>.key`, readable by its owner only: share the store, keep the key.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// A secret that is kept elsewhere (on a studio's server, say).
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The player's pseudonym: keyed BLAKE3, 128 bits in hex.
    pub fn pseudonym(&self, player_id: &str) -> String {
        let hash = blake3::keyed_hash(&self.0, player_id.as_bytes());
        hash.as_bytes()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What a store remembers of its secret, to notice a wrong one. It does not give the secret away.
    pub(super) fn check(&self) -> String {
        let own = blake3::derive_key("bevy_skald recording key check v1", &self.0);
        blake3::Hash::from_bytes(own).to_hex().to_string()
    }

    /// Where the secret of `store` is kept.
    pub(super) fn path(store: &Path) -> PathBuf {
        let mut name = store.as_os_str().to_owned();
        name.push(".key");
        name.into()
    }

    /// Reads the key file of `store`; `None` when there is none.
    pub(super) fn load(store: &Path) -> Result<Option<Self>> {
        let path = Self::path(store);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = read_limited(&path, 32, "read the key of the recordings")?;
        let bytes = bytes.try_into().map_err(|bytes: Vec<u8>| Error::Recording {
            file: path,
            reason: format!("the key has {} bytes instead of 32", bytes.len()),
            remedy: "restore it from a backup".into(),
        })?;
        Ok(Some(Self(bytes)))
    }

    /// Reads the key file of `store`, or makes one. When two programs make it at once, both get the same.
    pub(super) fn load_or_create(store: &Path) -> Result<Self> {
        if let Some(secret) = Self::load(store)? {
            return Ok(secret);
        }
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|e| Error::backend("drawing a random key", e.to_string()))?;
        let path = Self::path(store);
        match create_whole(&path, &bytes) {
            Ok(()) => Ok(Self(bytes)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => match Self::load(store)? {
                Some(secret) => Ok(secret),
                None => Err(Error::io("read the key of the recordings", path, error)),
            },
            Err(error) => Err(Error::io("write the key of the recordings", path, error)),
        }
    }
}

/// Creates `path` with all of `bytes` or not at all, for its owner only, and never replaces a file.
fn create_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.tmp", std::process::id()));
    let beside = PathBuf::from(beside);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // Left by a process of the same id that was killed here.
    let _ = fs::remove_file(&beside);
    let written = options.open(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        // A link, unlike a rename, fails where the name is taken.
        match fs::hard_link(&beside, path) {
            Err(error) if error.kind() == ErrorKind::Unsupported && !path.exists() => {
                fs::rename(&beside, path)
            }
            linked => linked,
        }
    });
    let _ = fs::remove_file(&beside);
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_only_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("play.sqlite");
        assert!(Secret::load(&store).unwrap().is_none());
        let made = Secret::load_or_create(&store).unwrap();
        assert_eq!(made, Secret::load_or_create(&store).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "only the key is left");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(Secret::path(&store)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(format!("{made:?}"), "Secret(..)");
    }

    #[test]
    fn a_pseudonym_depends_on_player_and_key_alone() {
        let (a, b) = (Secret::from_bytes([1; 32]), Secret::from_bytes([2; 32]));
        assert_eq!(a.pseudonym("ada"), a.pseudonym("ada"));
        assert_ne!(a.pseudonym("ada"), a.pseudonym("bob"));
        assert_ne!(a.pseudonym("ada"), b.pseudonym("ada"));
        assert_eq!(a.pseudonym("ada").len(), 32);
    }

    #[test]
    fn a_short_key_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("play.sqlite");
        fs::write(Secret::path(&store), [7; 31]).unwrap();
        let error = Secret::load_or_create(&store).unwrap_err().to_string();
        assert!(error.contains("31 bytes") && error.contains("play.sqlite.key"), "{error}");
    }
}
