//! [`Act`]: what a line *does*. Chosen by the model under the world grammar, before the first word.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

macro_rules! acts {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// The dialogue act of a line.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Act { $($(#[$doc])* $name),+ }

        impl Act {
            /// Every act.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The name that stands in corpora and JSON.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),+ }
            }
        }
    };
}

acts! {
    /// A welcome.
    Greet,
    /// A goodbye.
    Farewell,
    /// Something the speaker knows, about themselves or the world.
    Inform,
    /// The way to somebody or something.
    Direct,
    /// A quest is offered.
    Offer,
    /// A no.
    Refuse,
    /// Buying, selling, a price.
    Trade,
    /// Gratitude.
    Thank,
    /// Hearsay about something that exists.
    Rumour,
    /// A joke.
    Joke,
    /// Grief.
    Lament,
    /// Approval of what the player did.
    Praise,
    /// Disapproval.
    Scold,
    /// A warning or a threat answered.
    Warn,
    /// A secret is not told.
    KeepSecret,
    /// Weather, moods, the hour.
    SmallTalk,
    /// A question back.
    Ask,
    /// The speaker does not know or understand.
    Unsure,
}

impl Act {
    /// The control token of this act.
    pub fn token(self) -> String {
        format!("<act:{}>", self.name())
    }

    /// The act whose control token this is.
    pub fn from_token(token: &str) -> Option<Self> {
        token.strip_prefix("<act:")?.strip_suffix('>')?.parse().ok()
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Act {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|act| act.name() == name).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|act| act.name()).collect();
            format!("`{name}` is no act; there are {}", known.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_act_survives_its_token() {
        for &act in Act::ALL {
            assert_eq!(Act::from_token(&act.token()), Some(act));
        }
        assert_eq!(Act::from_token("<act:Dance>"), None);
    }
}
