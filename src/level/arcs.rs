//! Jump arcs as a tree: arcs that begin alike are one branch, so that a solver visits what they share once.

use crate::error::{Error, Result};

/// Places relative to where a jump began, one after the other: x to the right, y down.
pub type Arc = Vec<(i32, i32)>;

/// The longest arc, and the farthest place of one.
const LONGEST: usize = 64;

/// Refuses arcs that make no jumps.
pub(super) fn check(jumps: &[Arc], file: &str) -> Result<()> {
    let far = |(x, y): &(i32, i32)| x.abs() > LONGEST as i32 || y.abs() > LONGEST as i32;
    let wrong = jumps.iter().position(|arc| arc.is_empty() || arc.len() > LONGEST || arc.iter().any(far));
    match wrong {
        Some(n) => {
            let reason = format!("the arc number {} is empty, or goes too far", n + 1);
            Err(Error::config(
                file,
                "movement.jumps",
                reason,
                format!("write 1 to {LONGEST} places, none farther"),
            ))
        }
        None if jumps.len() > 4096 => {
            let reason = format!("there are {} arcs", jumps.len());
            Err(Error::config(file, "movement.jumps", reason, "write at most 4096"))
        }
        None => Ok(()),
    }
}

/// A step of a jump: where it goes from the step before, and what may come after.
#[derive(Clone, Debug, Default)]
pub(super) struct Step {
    /// From the step before.
    pub by: (i32, i32),
    /// Steps that may follow, by number.
    pub next: Vec<u16>,
}

/// All jumps. Step 0 is the ground; its followers begin the jumps.
#[derive(Clone, Debug)]
pub(super) struct Arcs {
    pub steps: Vec<Step>,
    /// The most columns and rows a step covers.
    pub stride: (i32, i32),
    /// The most columns a jump covers, drifting while falling not counted.
    pub span: i32,
}

impl Arcs {
    pub fn new(jumps: &[Arc]) -> Self {
        let mut all = Self { steps: vec![Step::default()], stride: (1, 1), span: 1 };
        let mirrored = |arc: &Arc| arc.iter().map(|(x, y)| (-x, *y)).collect::<Arc>();
        for arc in jumps.iter().flat_map(|arc| [arc.clone(), mirrored(arc)]) {
            let (mut at, mut from) = (0usize, (0, 0));
            for place in arc {
                let by = (place.0 - from.0, place.1 - from.1);
                from = place;
                all.span = all.span.max(place.0.abs());
                // Staying a moment in the air changes nothing on a grid.
                if by == (0, 0) {
                    continue;
                }
                all.stride = (all.stride.0.max(by.0.abs()), all.stride.1.max(by.1.abs()));
                let known = all.steps[at].next.iter().find(|n| all.steps[usize::from(**n)].by == by).copied();
                at = usize::from(known.unwrap_or_else(|| {
                    let fresh = all.steps.len() as u16;
                    all.steps.push(Step { by, next: Vec::new() });
                    all.steps[at].next.push(fresh);
                    fresh
                }));
                if all.steps.len() >= usize::from(u16::MAX) {
                    return all;
                }
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_beginnings_are_one_branch_and_mirrors_are_added() {
        let arcs = Arcs::new(&[vec![(0, -1), (1, -1), (2, 0)], vec![(0, -1), (0, -1), (1, -1), (1, 0)]]);
        // up; right, (down right | down); left, (down left | down)
        assert_eq!(arcs.steps.len(), 1 + 1 + 3 + 3);
        assert_eq!((arcs.stride, arcs.span), ((1, 1), 2));
        assert!(check(&[vec![]], "f").is_err() && check(&[vec![(0, 100)]], "f").is_err());
    }
}
