//! What is seen of a training: JSON lines on stdout, and on stderr a bar, or plain lines now and then when
//! stderr is no terminal.

use bevy_skald::training::{Fitted, Progress, Stage};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// How often a plain line is written where there is no bar.
const EVERY: Duration = Duration::from_secs(10);

/// Shows a training.
pub struct Screen {
    json: bool,
    /// `None`: stderr is no terminal.
    bar: Option<ProgressBar>,
    /// The last plain line.
    spoke: Instant,
    /// Where this process began to learn, for the time that is left.
    began: Option<(u64, Instant)>,
    val_loss: Option<f64>,
}

impl Screen {
    pub fn new(json: bool) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = "{bar:30} {pos}/{len} {msg} {elapsed} (left {eta})";
            bar.set_style(
                ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar
        });
        Self { json, bar, spoke: Instant::now(), began: None, val_loss: None }
    }

    /// Shows a step of the job.
    pub fn show(&mut self, progress: &Progress) {
        let &mut (from, since) = self.began.get_or_insert((progress.step, Instant::now()));
        if let Stage::Validating { done, of } = progress.stage {
            if let Some(bar) = &self.bar {
                bar.set_message(format!("validating {done}/{of}"));
            }
            return;
        }
        if self.json {
            say(progress);
        }
        self.val_loss = progress.val_loss.or(self.val_loss);
        let mut parts = Vec::new();
        parts.extend(progress.train_loss.map(|loss| format!("loss {loss:.4}")));
        parts.extend(self.val_loss.map(|loss| format!("validation {loss:.4}")));
        parts.extend(progress.epsilon.map(|epsilon| format!("epsilon {epsilon:.2}")));
        if progress.step > 0 {
            parts.push(format!("{:.0} tokens/s", progress.tokens_per_s));
        }
        let message = parts.join(", ");
        if let Some(bar) = &self.bar {
            if bar.length() != Some(progress.steps) {
                bar.set_length(progress.steps);
                bar.set_position(progress.step);
                // What an earlier process did says nothing about this one's speed.
                bar.reset_eta();
            }
            bar.set_position(progress.step);
            bar.set_message(message);
        } else if progress.val_loss.is_some() || self.spoke.elapsed() >= EVERY {
            self.spoke = Instant::now();
            let done = progress.step.saturating_sub(from);
            let left =
                since.elapsed().as_secs_f64() / done.max(1) as f64 * (progress.steps - progress.step) as f64;
            let left = if done == 0 { String::new() } else { format!(", {left:.0} s left") };
            eprintln!("step {}/{}: {message}{left}", progress.step, progress.steps);
        }
    }

    /// Says that the run was stopped and how to go on.
    pub fn stopped(&self, step: u64, out: &Path) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
        if self.json {
            say(&json!({ "done": false, "steps": step, "checkpoint": out }));
        }
        eprintln!("stopped at step {step}, all is saved; go on with the same command and `--resume`");
    }

    /// Says how the run ended; of plain text, how many bytes a held-out token has.
    pub fn done(&self, fitted: &Fitted, bytes_a_token: Option<f64>) {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
        if self.json {
            let mut line = serde_json::to_value(fitted).unwrap_or(Value::Null);
            line["done"] = true.into();
            if let Some(bytes) = bytes_a_token {
                line["best_bits_per_byte"] = (fitted.best_val_loss / std::f64::consts::LN_2 / bytes).into();
            }
            say(&line);
        }
        eprintln!(
            "done: {} steps{} in {:.0} s, validation loss {:.4} -> {:.4} (best, step {}), model in {}",
            fitted.steps,
            if fitted.early { ", stopped early," } else { "" },
            fitted.seconds,
            fitted.first_val_loss,
            fitted.best_val_loss,
            fitted.best_step,
            fitted.checkpoint.display()
        );
    }
}

/// A line on stdout. Training goes on when nobody reads it any more (`| head`).
fn say(line: &impl serde::Serialize) {
    if let Ok(line) = serde_json::to_string(line) {
        let _ = writeln!(std::io::stdout(), "{line}");
    }
}
