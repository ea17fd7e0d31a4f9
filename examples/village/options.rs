//! What can be asked for on the command line.

use std::path::PathBuf;

pub const HELP: &str = "village [options]
  --headless        no window: a scripted visit, printed as it happens (also when there is no display)
  --seed N          the seed of everything random (default 7)
  --model DIR       let this checkpoint speak; replaced files are loaded while it runs
  --png FILE        where the visit's picture goes (default village.png)
  --bots N          simulated players instead of a visit (implies --headless)
  --skips WHAT      what they all click away, whatever their tastes: loud lines (with a !), long or short ones
  --minutes M       how long they play, in game minutes (default 20)
  --record FILE     record what they do into this store
  --ack FILE        append what was durably recorded to this log
  --consent WORD    granted (default) or denied: nothing is written without consent
  --help            this text";

/// What simulated players click away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skips {
    Loud,
    Long,
    Short,
}

pub struct Options {
    pub headless: bool,
    pub seed: u64,
    pub model: Option<PathBuf>,
    pub png: PathBuf,
    pub bots: usize,
    pub skips: Option<Skips>,
    pub minutes: f32,
    pub record: Option<PathBuf>,
    pub ack: Option<PathBuf>,
    pub consent: bool,
}

impl Options {
    /// `Ok(None)`: help was asked for.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let display = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let mut options = Self {
            headless: !display("DISPLAY") && !display("WAYLAND_DISPLAY") && cfg!(target_os = "linux"),
            seed: 7,
            model: None,
            png: "village.png".into(),
            bots: 0,
            skips: None,
            minutes: 20.0,
            record: None,
            ack: None,
            consent: true,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            let number = |text: String| text.parse().map_err(|_| format!("{text} is no number for {word}"));
            match word.as_str() {
                "--headless" => options.headless = true,
                "--seed" => options.seed = number(value()?)?,
                "--model" => options.model = Some(value()?.into()),
                "--png" => options.png = value()?.into(),
                "--bots" => options.bots = number(value()?)? as usize,
                "--skips" => {
                    options.skips = Some(match value()?.as_str() {
                        "loud" => Skips::Loud,
                        "long" => Skips::Long,
                        "short" => Skips::Short,
                        other => return Err(format!("--skips is loud, long or short, not {other}")),
                    });
                }
                "--minutes" => {
                    let text = value()?;
                    let minutes: f32 =
                        text.parse().map_err(|_| format!("{text} is no number for --minutes"))?;
                    if !(0.0..=10_000.0).contains(&minutes) {
                        return Err("--minutes must be 0 to 10000".into());
                    }
                    options.minutes = minutes;
                }
                "--record" => options.record = Some(value()?.into()),
                "--ack" => options.ack = Some(value()?.into()),
                "--consent" => {
                    options.consent = match value()?.as_str() {
                        "granted" => true,
                        "denied" => false,
                        other => return Err(format!("--consent is granted or denied, not {other}")),
                    }
                }
                "--help" | "-h" => return Ok(None),
                other => return Err(format!("there is no option {other}")),
            }
        }
        if options.bots > 64 {
            return Err("--bots can be at most 64".into());
        }
        Ok(Some(options))
    }
}
