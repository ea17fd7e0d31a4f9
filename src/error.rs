//! [`Error`]: one variant per *who must act*, each saying what, where and what to do.
//!
//! Messages are one line: `what, where (file and field), what to do`. Errors of other crates are boxed,
//! so that their upgrades are not breaking changes of this one.

use std::path::{Path, PathBuf};

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong at a boundary of the crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused. Whoever owns the disk or the path must act.
    #[error("could not {doing}: {source}, {path}, {remedy}", path = path.display())]
    Io {
        /// What was being done, in the infinitive ("read the model's weights").
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// A file people write (RON, JSONL, corpus) is malformed. Its author must act.
    #[error("{reason}, {file}:{line}:{column}, {remedy}")]
    Syntax {
        /// The file's name.
        file: String,
        /// One-based line.
        line: usize,
        /// One-based column (0: the whole line).
        column: usize,
        /// What is wrong.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// A value in a file or an option makes no sense. Whoever wrote it must act.
    #[error("{reason}, {file}, field `{field}`, {remedy}")]
    Config {
        /// The file's name, or `options`.
        file: String,
        /// The field.
        field: String,
        /// What is wrong with it.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// Weights do not fit the model they are said to be. Whoever made the checkpoint must act.
    #[error("{reason}, {file}{part}, {remedy}", part = if tensor.is_empty() { String::new() } else { format!(", tensor `{tensor}`") })]
    Weights {
        /// The file's name.
        file: String,
        /// The tensor (empty: the file as a whole).
        tensor: String,
        /// What is wrong.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// A tokenizer or vocabulary lacks something or does not fit the model.
    #[error("{reason}, {file}, {remedy}")]
    Vocabulary {
        /// The file's name.
        file: String,
        /// What is wrong.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// There is nothing to learn from, or it cannot be split. Whoever chose the data must act.
    #[error("{reason}, {source_name}, {remedy}")]
    Data {
        /// The file, folder or data set.
        source_name: String,
        /// What is wrong.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// A recording cannot be used.
    #[error("{reason}, {file}, {remedy}", file = file.display())]
    Recording {
        /// The store.
        file: PathBuf,
        /// What is wrong.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// The wanted compute device is not there.
    #[error("{reason}, device `{wanted}`, {remedy}")]
    Device {
        /// The device asked for.
        wanted: String,
        /// Why it cannot be had.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// What was asked for cannot exist. The message names the rule that cannot hold.
    #[error("nothing can satisfy the rule `{rule}`, {remedy}")]
    Unsatisfiable {
        /// The rule.
        rule: String,
        /// What to do.
        remedy: String,
    },
    /// Training diverged.
    #[error(
        "the loss became {loss} at step {step}, training, lower `learning_rate` or raise `warmup_steps`; the best checkpoint was kept"
    )]
    Diverged {
        /// The optimiser step.
        step: u64,
        /// The loss seen there.
        loss: f32,
    },
    /// A job panicked; the game goes on.
    #[error("a job panicked: {message}, {job}, please report this with the model and the seed")]
    Panicked {
        /// The job.
        job: String,
        /// The panic's message.
        message: String,
    },
    /// There is no model to do the work with (not loaded yet, failed to load, or removed).
    #[error("{reason}, {model}, {remedy}")]
    NoModel {
        /// The model's name or path.
        model: String,
        /// Why it is not there.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// The work outlived its deadline.
    #[error("no answer within {seconds} s, {what}, raise the deadline or use a smaller model")]
    Deadline {
        /// What was late.
        what: String,
        /// The deadline in seconds.
        seconds: f32,
    },
    /// A library below failed in a way that should not happen.
    #[error("{doing} failed: {source}")]
    Backend {
        /// What was being done.
        doing: &'static str,
        /// What the library said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// An [`Error::Io`] with a remedy chosen from the kind of failure.
    pub fn io(doing: &'static str, path: impl AsRef<Path>, source: std::io::Error) -> Self {
        use std::io::ErrorKind as K;
        let remedy = match source.kind() {
            K::NotFound => "check the path",
            K::PermissionDenied | K::ReadOnlyFilesystem => "check the permissions",
            K::StorageFull | K::QuotaExceeded => "free some space and run again",
            K::IsADirectory | K::NotADirectory => "check whether a file or a folder is meant",
            _ => "check the disk and run again",
        };
        Self::Io { doing, path: path.as_ref().to_owned(), source, remedy }
    }

    /// An [`Error::Config`].
    pub fn config(
        file: impl Into<String>,
        field: impl Into<String>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::Config { file: file.into(), field: field.into(), reason: reason.into(), remedy: remedy.into() }
    }

    /// An [`Error::Weights`].
    pub fn weights(
        file: impl Into<String>,
        tensor: impl Into<String>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::Weights {
            file: file.into(),
            tensor: tensor.into(),
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }

    /// An [`Error::Syntax`] from RON's own error, which knows line and column.
    pub fn ron(file: impl Into<String>, error: &ron::error::SpannedError) -> Self {
        Self::Syntax {
            file: file.into(),
            line: error.span.start.line,
            column: error.span.start.col,
            reason: error.code.to_string(),
            remedy: "mend that line".into(),
        }
    }

    /// An [`Error::Backend`].
    pub fn backend(doing: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Backend { doing, source: source.into() }
    }
}

impl From<candle_core::Error> for Error {
    fn from(source: candle_core::Error) -> Self {
        Self::backend("a tensor operation", source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_io_error_names_path_and_remedy() {
        let error = Error::io("read the config", "/no/such", std::io::ErrorKind::NotFound.into());
        let text = error.to_string();
        assert!(text.contains("/no/such") && text.contains("check the path"), "{text}");
    }

    #[test]
    fn a_ron_error_names_the_line() {
        let error = ron::from_str::<Vec<u32>>("[1,\n x]").unwrap_err();
        assert!(Error::ron("a.ron", &error).to_string().contains("a.ron:2"), "{error}");
    }
}
