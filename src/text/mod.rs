//! Text: cleaning, letter case, doubles, the tokenizer, chat templates. Not here: what the words mean.

mod case;
mod chat;
mod clean;
mod dedup;
mod lexicon;
mod special;
mod tokenizer;
mod vocabulary;

pub use case::{Truecase, fold};
pub use chat::{ChatTemplate, Message};
pub use clean::{LONGEST_SAID, clean_line, clean_player, normalise};
pub use dedup::group_by_shared_lines;
pub(crate) use lexicon::units;
pub use lexicon::{END_OF_LINE, Lexicon, Possible, Spelling};
pub use special::SpecialTokens;
pub(crate) use tokenizer::SPACE;
pub use tokenizer::{BASE_SPECIALS, DecodeStream, Tokenizer};
pub use vocabulary::Vocabulary;
