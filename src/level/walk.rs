//! The rules of walking: where a figure may be a moment later, in a platformer and seen from above.
//!
//! Time is cut into cells: a step takes a figure to a neighbouring cell, or along a jump's arc. Enemies stand still here,
//! and nobody enters their cell; who plays in real time can do more than these rules say, seldom less.

use super::arcs::Arcs;
use super::game::bit;

/// A figure's place: column, row, and the step of the jump it is in (0: none).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub x: i32,
    pub y: i32,
    pub step: u16,
}

/// What stands in a cell, as bits; `None` outside, and where a level is not yet written.
pub(super) trait Cells {
    fn bits(&self, x: i32, y: i32) -> Option<u16>;
}

/// A platformer's rules.
#[derive(Clone, Debug)]
pub(super) struct Gravity {
    pub arcs: Arcs,
    pub air_control: bool,
    /// The columns after which one comes back on the other side.
    pub wraps: Option<i32>,
}

impl Gravity {
    /// Whether a figure there does not fall.
    pub fn supported(cells: &impl Cells, x: i32, y: i32) -> bool {
        let here = cells.bits(x, y).unwrap_or(0);
        let below = cells.bits(x, y + 1).unwrap_or(0);
        here & (bit::LADDER | bit::ROPE) != 0
            || below & (bit::SOLID | bit::DIGGABLE | bit::ONE_WAY | bit::LADDER) != 0
    }

    /// Whether a figure can be there and does not fall.
    pub fn standable(cells: &impl Cells, x: i32, y: i32) -> bool {
        open(cells, x, y) && Self::supported(cells, x, y)
    }

    /// Every place that can be next.
    pub fn next(&self, cells: &impl Cells, from: Place, mut visit: impl FnMut(Place)) {
        let Place { x, y, step } = from;
        let mut go = |x: i32, y: i32, step: u16| {
            let x = self.wraps.map_or(x, |width| x.rem_euclid(width));
            visit(Place { x, y, step });
        };
        let at = |x: i32, y: i32| {
            let x = self.wraps.map_or(x, |width| x.rem_euclid(width));
            cells.bits(x, y)
        };
        let enter = |x: i32, y: i32| at(x, y).is_some_and(|bits| bits & bit::CLOSED == 0);
        let descend = |x: i32, y: i32| at(x, y).is_some_and(|bits| bits & (bit::CLOSED | bit::ONE_WAY) == 0);
        let (here, below) = (at(x, y).unwrap_or(0), at(x, y + 1).unwrap_or(0));
        let mut jump = |from: u16| {
            for next in &self.arcs.steps[usize::from(from)].next {
                let (dx, dy) = self.arcs.steps[usize::from(*next)].by;
                if self.clear(&enter, &descend, (x, y), (dx, dy)) {
                    go(x + dx, y + dy, *next);
                }
            }
        };
        let supported = Self::supported(cells, x, y);
        if supported {
            jump(0);
        }
        if step > 0 {
            jump(step);
        }
        if supported {
            for side in [-1, 1] {
                if enter(x + side, y) {
                    go(x + side, y, 0);
                    if at(x + side, y + 1).is_some_and(|bits| bits & bit::DIGGABLE != 0) {
                        go(x + side, y + 1, 0);
                    }
                }
            }
            if here & bit::LADDER != 0 && enter(x, y - 1) {
                go(x, y - 1, 0);
            }
            let climbs = here & (bit::LADDER | bit::ROPE) != 0 || below & bit::LADDER != 0;
            if climbs && descend(x, y + 1) {
                go(x, y + 1, 0);
            }
        } else if descend(x, y + 1) {
            go(x, y + 1, 0);
            if self.air_control {
                for side in [-1, 1] {
                    if descend(x + side, y + 1) {
                        go(x + side, y + 1, 0);
                    }
                }
            }
        }
    }

    /// Whether the way of a step is free: all of a long one, a corner on at least one side.
    fn clear(
        &self,
        enter: &impl Fn(i32, i32) -> bool,
        descend: &impl Fn(i32, i32) -> bool,
        (x, y): (i32, i32),
        (dx, dy): (i32, i32),
    ) -> bool {
        let free = |x, y| if dy > 0 { descend(x, y) } else { enter(x, y) };
        let strides = dx.abs().max(dy.abs());
        let (mut px, mut py) = (x, y);
        for stride in 1..=strides {
            let (nx, ny) = (x + dx * stride / strides, y + dy * stride / strides);
            if !free(nx, ny) || (nx != px && ny != py && !enter(px, ny) && !enter(nx, py)) {
                return false;
            }
            (px, py) = (nx, ny);
        }
        true
    }
}

/// Whether a figure can be there.
pub(super) fn open(cells: &impl Cells, x: i32, y: i32) -> bool {
    cells.bits(x, y).is_some_and(|bits| bits & bit::CLOSED == 0)
}

/// A grid's bits.
pub(super) struct GridCells {
    pub width: i32,
    pub height: i32,
    pub bits: Vec<u16>,
}

impl GridCells {
    pub fn new(grid: &super::Grid, bits: &[u16]) -> Self {
        let all =
            grid.tiles().iter().map(|tile| bits.get(usize::from(*tile)).copied().unwrap_or(0)).collect();
        Self { width: grid.width() as i32, height: grid.height() as i32, bits: all }
    }
}

impl Cells for GridCells {
    fn bits(&self, x: i32, y: i32) -> Option<u16> {
        let inside = (0..self.width).contains(&x) && (0..self.height).contains(&y);
        inside.then(|| self.bits[(y * self.width + x) as usize])
    }
}
