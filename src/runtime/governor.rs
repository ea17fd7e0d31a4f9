//! [`FrameGovernor`]: keeps the worker out of the game's frames.
//!
//! The game's thread says when its frame begins and ends. A step that runs beside it makes the frame longer where cores are
//! few (they share caches, and threads of one core everything else), so once a frame was longer than the budget allows,
//! steps are fitted into the gaps between frames: one begins when it will be over, by what such steps took, before the next
//! frame. Where there is no such gap it waits, and begins at last anyway: work slows down, and never stops. After some
//! seconds without a frame that was too long the worker is let go again.

use bevy::prelude::Resource;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The longest that a step waits for a gap.
const LONGEST_WAIT: Duration = Duration::from_millis(33);
/// How often a waiting step looks.
const LOOK: Duration = Duration::from_micros(100);
/// A game that begins no frame for so long has nothing to be kept out of.
const STILL: Duration = Duration::from_millis(250);
/// Frames without work beside them that say what is usual.
const CLEAN: usize = 31;
/// Frames until the worker is let go again.
const FORGET: u32 = 600;

/// What the worker's threads see of the frame.
#[derive(Debug)]
pub(crate) struct Pace {
    epoch: Instant,
    busy: AtomicBool,
    /// When the last frame began, and how long from one to the next, in nanoseconds.
    begun: AtomicU64,
    period: AtomicU64,
    /// 0 (the worker runs as it likes) to [`FORGET`].
    pressure: AtomicU32,
    /// Whether a step ran beside this frame.
    beside: AtomicBool,
    running: AtomicU32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            epoch: Instant::now(),
            busy: AtomicBool::new(false),
            begun: AtomicU64::new(0),
            period: AtomicU64::new(0),
            pressure: AtomicU32::new(0),
            beside: AtomicBool::new(false),
            running: AtomicU32::new(0),
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Pace {
    /// Waits until a step that will take about `expected` may begin. `closes`: there is no more reason to wait.
    pub(crate) fn wait(&self, expected: Duration, closes: impl Fn() -> bool) {
        let since = Instant::now();
        while self.pressure.load(Ordering::Relaxed) > 0 && since.elapsed() < LONGEST_WAIT && !closes() {
            let now = nanos(self.epoch.elapsed());
            let begun = self.begun.load(Ordering::Relaxed);
            if now.saturating_sub(begun) > nanos(STILL) {
                return;
            }
            let next = begun + self.period.load(Ordering::Relaxed);
            let fits = now + nanos(expected) <= next || now >= next;
            if !self.busy.load(Ordering::Relaxed) && fits {
                return;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// A step begins.
    pub(crate) fn enter(&self) {
        self.running.fetch_add(1, Ordering::Relaxed);
        if self.busy.load(Ordering::Relaxed) {
            self.beside.store(true, Ordering::Relaxed);
        }
    }

    /// It is over.
    pub(crate) fn leave(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many prompt tokens a step may take: fewer while the worker is held to gaps.
    pub(crate) fn prefill(&self) -> usize {
        if self.pressure.load(Ordering::Relaxed) > 0 { 64 } else { usize::MAX }
    }
}

/// Keeps the worker out of the game's frames. See the module's documentation.
#[derive(Resource, Debug)]
pub struct FrameGovernor {
    /// By how much work beside a frame may make it longer.
    pub budget: Duration,
    /// Off: the worker runs as it likes.
    pub enabled: bool,
    pace: Arc<Pace>,
    frame: Option<Instant>,
    clean: VecDeque<Duration>,
    overruns: u64,
}

impl FrameGovernor {
    pub(super) fn new(pace: Arc<Pace>) -> Self {
        Self {
            budget: Duration::from_micros(500),
            enabled: true,
            pace,
            frame: None,
            clean: VecDeque::new(),
            overruns: 0,
        }
    }

    /// How much the worker is held back: 0, not at all, to 1, to the gaps between frames.
    pub fn pressure(&self) -> f32 {
        self.pace.pressure.load(Ordering::Relaxed) as f32 / FORGET as f32
    }

    /// How long a frame takes the game's thread without work beside it (the median of the last ones), if that is known.
    pub fn usual(&self) -> Option<Duration> {
        let mut sorted: Vec<Duration> = self.clean.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }

    /// Frames so far that work beside them made longer than the budget.
    pub fn overruns(&self) -> u64 {
        self.overruns
    }

    /// The frame begins.
    pub fn begin(&mut self) {
        self.begin_at(Instant::now());
    }

    /// The frame's work is over.
    pub fn end(&mut self) {
        self.end_at(Instant::now());
    }

    fn begin_at(&mut self, now: Instant) {
        if let Some(before) = self.frame.replace(now) {
            let period = nanos(now.saturating_duration_since(before).min(STILL));
            let old = self.pace.period.load(Ordering::Relaxed);
            // The shorter, soon; the longer, slowly: a step that is thought too short is worse than one too long.
            let new = if old == 0 { period } else { old.min(period).midpoint(old - old / 8 + period / 8) };
            self.pace.period.store(new, Ordering::Relaxed);
        }
        self.pace.begun.store(nanos(now.saturating_duration_since(self.pace.epoch)), Ordering::Relaxed);
        self.pace.busy.store(true, Ordering::Relaxed);
        self.pace.beside.store(self.pace.running.load(Ordering::Relaxed) > 0, Ordering::Relaxed);
    }

    fn end_at(&mut self, now: Instant) {
        self.pace.busy.store(false, Ordering::Relaxed);
        let Some(begun) = self.frame else { return };
        let took = now.saturating_duration_since(begun);
        let beside = self.pace.beside.load(Ordering::Relaxed);
        if !beside {
            self.clean.push_back(took);
            if self.clean.len() > CLEAN {
                self.clean.pop_front();
            }
        }
        let known = self.clean.len() >= CLEAN / 4;
        let usual = self.usual().filter(|_| known);
        let over = beside && usual.is_none_or(|usual| took > usual + self.budget);
        let pressure = self.pace.pressure.load(Ordering::Relaxed);
        let new = match (self.enabled, over) {
            (false, _) => 0,
            (true, true) => FORGET,
            (true, false) => pressure.saturating_sub(1),
        };
        self.overruns += u64::from(over && known);
        self.pace.pressure.store(new, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of a game at 60 Hz: what each takes, and whether a step ran beside it.
    fn play(governor: &mut FrameGovernor, at: &mut Instant, frames: usize, took: Duration, beside: bool) {
        for _ in 0..frames {
            governor.begin_at(*at);
            if beside {
                governor.pace.enter();
            }
            governor.end_at(*at + took);
            if beside {
                governor.pace.leave();
            }
            *at += Duration::from_micros(16_667);
        }
    }

    #[test]
    fn a_frame_that_work_made_longer_holds_the_worker_to_the_gaps_and_it_is_let_go_again() {
        let ms = Duration::from_millis;
        let mut governor = FrameGovernor::new(Arc::default());
        let mut at = Instant::now();
        play(&mut governor, &mut at, 40, ms(4), false);
        assert_eq!((governor.pressure(), governor.usual()), (0.0, Some(ms(4))));
        play(&mut governor, &mut at, 40, Duration::from_micros(4300), true);
        assert_eq!((governor.pressure(), governor.overruns()), (0.0, 0));
        play(&mut governor, &mut at, 1, ms(5), true);
        assert_eq!((governor.pressure(), governor.overruns()), (1.0, 1));
        play(&mut governor, &mut at, FORGET as usize, ms(4), false);
        assert_eq!(governor.pressure(), 0.0);
        // The game itself became slower: that is usual within ten frames or so, and no reason to hold the worker.
        play(&mut governor, &mut at, CLEAN / 2 + 1, ms(12), false);
        play(&mut governor, &mut at, 5, ms(12), true);
        assert_eq!(governor.pressure(), 0.0);
        governor.enabled = false;
        play(&mut governor, &mut at, 5, ms(20), true);
        assert_eq!(governor.pressure(), 0.0);
    }

    #[test]
    fn a_step_waits_for_the_gap_and_not_for_ever() {
        let mut governor = FrameGovernor::new(Arc::default());
        let pace = Arc::clone(&governor.pace);
        let waited = |expected: u64| {
            let since = Instant::now();
            pace.wait(Duration::from_millis(expected), || false);
            since.elapsed()
        };
        assert!(waited(5) < LONGEST_WAIT);
        pace.pressure.store(FORGET, Ordering::Relaxed);
        governor.begin();
        assert!(waited(1) >= LONGEST_WAIT);
        // Nothing is known of the next frame: it may begin at any time.
        governor.end();
        assert!(waited(1) < LONGEST_WAIT);
        pace.begun.store(nanos(pace.epoch.elapsed()), Ordering::Relaxed);
        pace.period.store(nanos(Duration::from_secs(5)), Ordering::Relaxed);
        assert!(waited(4000) < LONGEST_WAIT);
        assert!(waited(6000) >= LONGEST_WAIT);
    }
}
