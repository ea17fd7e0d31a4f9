//! [`Job`]: all long work is cut into steps, so that whoever runs it can pause, stop or drop it between two.

use crate::error::Result;
use std::ops::ControlFlow;

/// Work that is done a step at a time.
///
/// A step should take milliseconds, not seconds: whoever drives the job (the compute worker of a game,
/// a progress bar, a test) decides between steps whether to go on. Dropping a job cancels it.
pub trait Job: Send + 'static {
    /// What the job yields when it is done.
    type Output: Send + 'static;
    /// What it tells on the way.
    type Update: Send + 'static;

    /// Does one step. After [`ControlFlow::Break`] or an error it must not be stepped again.
    fn step(&mut self) -> Result<ControlFlow<Self::Output, Self::Update>>;
}

/// Runs a job to its end on this thread, handing each update to `on_update`.
pub fn run<J: Job>(mut job: J, mut on_update: impl FnMut(J::Update)) -> Result<J::Output> {
    loop {
        match job.step()? {
            ControlFlow::Continue(update) => on_update(update),
            ControlFlow::Break(output) => return Ok(output),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Count(u32);

    impl Job for Count {
        type Output = &'static str;
        type Update = u32;

        fn step(&mut self) -> Result<ControlFlow<&'static str, u32>> {
            self.0 += 1;
            Ok(if self.0 > 3 { ControlFlow::Break("done") } else { ControlFlow::Continue(self.0) })
        }
    }

    #[test]
    fn a_job_runs_to_its_end_and_tells_every_step() {
        let mut seen = Vec::new();
        assert_eq!(run(Count(0), |n| seen.push(n)).unwrap(), "done");
        assert_eq!(seen, [1, 2, 3]);
    }
}
