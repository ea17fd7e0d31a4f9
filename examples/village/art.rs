//! The village's look, painted by code: a map of sixteen-pixel tiles, people, things.

use crate::people::facts;
use bevy::asset::RenderAssetUsages;
use bevy::prelude::*;
use bevy::render::render_resource::{Extent3d, TextureDimension, TextureFormat};
use bevy_skald::seed::{Seed, Stream};

/// Pixels in a tile.
pub const TILE: usize = 16;
/// The map, in tiles.
pub const MAP: (usize, usize) = (40, 26);

type Rgb = [u8; 3];

const GRASS: [Rgb; 3] = [[106, 150, 74], [100, 143, 70], [112, 157, 79]];
const BLADE: Rgb = [84, 126, 62];
const PATH: [Rgb; 2] = [[196, 168, 118], [188, 160, 110]];
const WATER: [Rgb; 2] = [[76, 132, 176], [84, 142, 186]];
const OUTLINE: Rgb = [52, 42, 48];
const LEAF: [Rgb; 3] = [[58, 104, 62], [70, 120, 68], [48, 88, 56]];
const TRUNK: Rgb = [104, 76, 54];
const WALL: Rgb = [222, 206, 176];
const BEAM: Rgb = [126, 92, 66];
const STONE: Rgb = [158, 156, 160];

/// A picture being painted; (0, 0) is the top left.
pub struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    pub fn new(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![0; width * height * 4] }
    }

    fn dot(&mut self, x: i32, y: i32, colour: Rgb) {
        if (0..self.width as i32).contains(&x) && (0..self.height as i32).contains(&y) {
            let at = (y as usize * self.width + x as usize) * 4;
            self.pixels[at..at + 4].copy_from_slice(&[colour[0], colour[1], colour[2], 255]);
        }
    }

    fn shade(&mut self, x: i32, y: i32, factor: f32) {
        if (0..self.width as i32).contains(&x) && (0..self.height as i32).contains(&y) {
            let at = (y as usize * self.width + x as usize) * 4;
            for value in &mut self.pixels[at..at + 3] {
                *value = (f32::from(*value) * factor) as u8;
            }
        }
    }

    fn rect(&mut self, x: i32, y: i32, w: i32, h: i32, colour: Rgb) {
        (y..y + h).for_each(|y| (x..x + w).for_each(|x| self.dot(x, y, colour)));
    }

    fn disc(&mut self, x: i32, y: i32, r: i32, colour: Rgb) {
        for dy in -r..=r {
            for dx in -r..=r {
                if dx * dx + dy * dy <= r * r + r / 2 {
                    self.dot(x + dx, y + dy, colour);
                }
            }
        }
    }

    fn shadow(&mut self, x: i32, y: i32, rx: i32, ry: i32) {
        for dy in -ry..=ry {
            for dx in -rx..=rx {
                if dx * dx * ry * ry + dy * dy * rx * rx <= rx * rx * ry * ry {
                    self.shade(x + dx, y + dy, 0.75);
                }
            }
        }
    }

    pub fn image(self) -> Image {
        let size =
            Extent3d { width: self.width as u32, height: self.height as u32, depth_or_array_layers: 1 };
        let mut image = Image::new(
            size,
            TextureDimension::D2,
            self.pixels,
            TextureFormat::Rgba8UnormSrgb,
            RenderAssetUsages::default(),
        );
        image.sampler = bevy::image::ImageSampler::nearest();
        image
    }
}

/// Where a spot of the world (tiles, north up) is on the map picture (pixels, down).
fn pixel(at: Vec2) -> (i32, i32) {
    ((at.x * TILE as f32) as i32, ((MAP.1 as f32 - at.y) * TILE as f32) as i32)
}

/// The ground with everything that does not move.
pub fn village() -> Canvas {
    let mut canvas = Canvas::new(MAP.0 * TILE, MAP.1 * TILE);
    let mut dice = Seed::new(11).derive("art").stream();
    for y in 0..canvas.height as i32 {
        for x in 0..canvas.width as i32 {
            let patch = ((x / 5 + y / 4) * 7 + (x / 11) * 3 + (y / 9) * 5) % 3;
            canvas.dot(x, y, GRASS[patch as usize]);
        }
    }
    for _ in 0..2600 {
        let (x, y) = (dice.below(canvas.width) as i32, dice.below(canvas.height) as i32);
        canvas.dot(x, y, BLADE);
        canvas.dot(x + 1, y - 1, BLADE);
    }
    for _ in 0..120 {
        let (x, y) = (dice.below(canvas.width) as i32, dice.below(canvas.height) as i32);
        let petal = [[232, 214, 120], [226, 170, 180], [238, 238, 230]][dice.below(3)];
        canvas.dot(x, y, petal);
        canvas.dot(x + 1, y, petal);
        canvas.dot(x, y + 1, petal);
    }
    let facts = facts();
    let spot = |name: &str| facts.place(name).map_or(Vec2::ZERO, |place| Vec2::new(place.at.0, place.at.1));
    river(&mut canvas, spot("the old bridge"));
    let square = spot("the square");
    for place in &facts.places {
        road(&mut canvas, square, Vec2::new(place.at.0, place.at.1 - 1.0), &mut dice);
    }
    let (x, y) = pixel(square);
    canvas.disc(x, y, 34, PATH[0]);
    for _ in 0..90 {
        let (dx, dy) = (dice.below(56) as i32 - 28, dice.below(56) as i32 - 28);
        canvas.rect(x + dx, y + dy, 2, 1, PATH[1]);
    }
    bridge(&mut canvas, spot("the old bridge"));
    pond(&mut canvas, spot("the pond"));
    forest(&mut canvas, spot("the woods"), &mut dice);
    for place in &facts.places {
        let (x, y) = pixel(Vec2::new(place.at.0, place.at.1));
        match place.name.as_str() {
            "the bakery" => house(&mut canvas, x, y, 44, [176, 92, 70]),
            "the mill" => {
                house(&mut canvas, x, y, 40, [150, 116, 84]);
                mill_sails(&mut canvas, x, y - 44);
            }
            "the forge" => {
                house(&mut canvas, x, y, 44, [98, 96, 108]);
                canvas.rect(x + 12, y - 52, 7, 18, STONE);
                canvas.disc(x + 15, y - 58, 4, [190, 190, 194]);
            }
            "the inn" => house(&mut canvas, x, y, 60, [140, 78, 96]),
            "the chapel" => {
                house(&mut canvas, x, y, 40, [92, 112, 150]);
                canvas.rect(x - 1, y - 62, 3, 14, [232, 214, 120]);
                canvas.rect(x - 5, y - 58, 11, 3, [232, 214, 120]);
            }
            "the market" => stalls(&mut canvas, x, y),
            "the farm" => {
                house(&mut canvas, x, y, 44, [166, 128, 70]);
                fence(&mut canvas, x - 40, y + 26, 80);
            }
            "the watchtower" => tower(&mut canvas, x, y),
            "the archive" => house(&mut canvas, x, y, 48, [96, 126, 104]),
            "the graveyard" => graves(&mut canvas, x, y),
            "the square" => well(&mut canvas, x, y),
            _ => {}
        }
    }
    for _ in 0..70 {
        let at = Vec2::new(dice.below(MAP.0) as f32, dice.below(MAP.1) as f32);
        let free = facts.places.iter().all(|place| Vec2::new(place.at.0, place.at.1).distance(at) > 4.0);
        let (x, y) = pixel(at);
        let on = (y.clamp(0, canvas.height as i32 - 1) as usize * canvas.width + x as usize) * 4;
        let grass =
            canvas.pixels[on + 1] > canvas.pixels[on] && canvas.pixels[on + 1] > canvas.pixels[on + 2];
        if free && grass {
            tree(&mut canvas, x, y, &mut dice);
        }
    }
    canvas
}

fn river(canvas: &mut Canvas, bridge: Vec2) {
    let (x0, _) = pixel(bridge);
    for y in 0..canvas.height as i32 {
        let x = x0 + ((y as f32 / 38.0).sin() * 9.0) as i32;
        canvas.rect(x - 17, y, 34, 1, [150, 140, 100]);
        canvas.rect(x - 15, y, 30, 1, WATER[0]);
        if y % 7 < 2 {
            canvas.rect(x - 8 + (y * 5) % 12, y, 6, 1, WATER[1]);
        }
    }
}

fn bridge(canvas: &mut Canvas, at: Vec2) {
    let (x, y) = pixel(at);
    canvas.rect(x - 24, y - 11, 48, 24, OUTLINE);
    for plank in 0..12 {
        let colour = if plank % 2 == 0 { [158, 118, 82] } else { [146, 108, 74] };
        canvas.rect(x - 24 + plank * 4, y - 9, 4, 20, colour);
    }
    canvas.rect(x - 26, y - 12, 52, 3, BEAM);
    canvas.rect(x - 26, y + 11, 52, 3, BEAM);
}

fn pond(canvas: &mut Canvas, at: Vec2) {
    let (x, y) = pixel(at + Vec2::new(1.0, -2.6));
    for (dx, r) in [(-14, 13), (0, 17), (15, 12)] {
        canvas.disc(x + dx, y, r + 2, [150, 140, 100]);
    }
    for (dx, r) in [(-14, 13), (0, 17), (15, 12)] {
        canvas.disc(x + dx, y, r, WATER[0]);
    }
    canvas.rect(x - 8, y - 5, 9, 1, WATER[1]);
    canvas.rect(x + 4, y + 4, 8, 1, WATER[1]);
    canvas.disc(x - 12, y + 4, 2, LEAF[1]);
}

fn road(canvas: &mut Canvas, from: Vec2, to: Vec2, dice: &mut Stream) {
    // Along one axis, then the other: roads in a village have corners.
    let corner = Vec2::new(to.x, from.y);
    for (a, b) in [(from, corner), (corner, to)] {
        let steps = (a.distance(b) * TILE as f32) as i32;
        for n in 0..=steps.max(1) {
            let (x, y) = pixel(a.lerp(b, n as f32 / steps.max(1) as f32));
            canvas.rect(x - 6, y - 6, 12, 12, PATH[0]);
            if dice.chance(0.25) {
                canvas.rect(x - 5 + dice.below(10) as i32, y - 5 + dice.below(10) as i32, 2, 1, PATH[1]);
            }
        }
    }
}

fn house(canvas: &mut Canvas, x: i32, y: i32, width: i32, roof: Rgb) {
    let (left, wall) = (x - width / 2, 20);
    canvas.shadow(x + 4, y + 2, width / 2 + 4, 5);
    canvas.rect(left - 1, y - wall - 1, width + 2, wall + 2, OUTLINE);
    canvas.rect(left, y - wall, width, wall, WALL);
    for beam in [left, left + width / 3, left + 2 * width / 3, left + width - 2] {
        canvas.rect(beam, y - wall, 2, wall, BEAM);
    }
    canvas.rect(x - 4, y - 13, 9, 13, OUTLINE);
    canvas.rect(x - 3, y - 12, 7, 12, BEAM);
    canvas.dot(x + 2, y - 6, [232, 214, 120]);
    for window in [left + 5, left + width - 11] {
        canvas.rect(window - 1, y - 14, 8, 7, OUTLINE);
        canvas.rect(window, y - 13, 6, 5, [246, 222, 140]);
        canvas.rect(window + 3, y - 13, 1, 5, OUTLINE);
    }
    // The roof, row by row, narrower to the top.
    for row in 0..20 {
        let narrow = row / 2;
        let w = width + 8 - 2 * narrow;
        let tone = |c: u8| {
            (f32::from(c) * (1.08 - 0.018 * (row % 5) as f32 - if row > 15 { 0.0 } else { 0.04 })) as u8
        };
        let y = y - wall - row;
        canvas.rect(left - 5 + narrow, y, w + 2, 1, OUTLINE);
        canvas.rect(left - 4 + narrow, y, w, 1, roof.map(tone));
        if row % 4 == 3 {
            canvas.rect(left - 4 + narrow, y, w, 1, roof.map(|c| (f32::from(c) * 0.8) as u8));
        }
    }
    canvas.rect(left - 4 + 10, y - wall - 20, width + 8 - 20, 1, OUTLINE);
}

fn mill_sails(canvas: &mut Canvas, x: i32, y: i32) {
    for n in -16i32..=16 {
        for (a, b) in [(n, n), (n, -n)] {
            canvas.rect(x + a - 1, y + b - 1, 3, 3, BEAM);
            if n.abs() > 4 {
                canvas.rect(x + a + 2, y + b - 1, 3, 3, [236, 230, 214]);
            }
        }
    }
    canvas.disc(x, y, 3, OUTLINE);
}

fn stalls(canvas: &mut Canvas, x: i32, y: i32) {
    for (dx, colour) in [(-26, [196, 84, 78]), (4, [84, 118, 176])] {
        canvas.shadow(x + dx + 12, y + 1, 14, 4);
        canvas.rect(x + dx, y - 10, 24, 10, BEAM);
        canvas.rect(x + dx + 2, y - 9, 20, 4, [214, 176, 110]);
        for stripe in 0..6 {
            let colour = if stripe % 2 == 0 { colour } else { [236, 230, 214] };
            canvas.rect(x + dx + stripe * 4, y - 22, 4, 10, colour);
        }
        canvas.rect(x + dx, y - 23, 24, 1, OUTLINE);
        canvas.rect(x + dx, y - 12, 24, 1, OUTLINE);
    }
}

fn fence(canvas: &mut Canvas, x: i32, y: i32, width: i32) {
    canvas.rect(x, y, width, 2, BEAM);
    canvas.rect(x, y + 4, width, 2, BEAM);
    (0..=width / 10).for_each(|post| canvas.rect(x + post * 10, y - 3, 3, 12, TRUNK));
}

fn tower(canvas: &mut Canvas, x: i32, y: i32) {
    canvas.shadow(x + 4, y + 2, 18, 5);
    canvas.rect(x - 13, y - 57, 26, 58, OUTLINE);
    canvas.rect(x - 12, y - 56, 24, 56, STONE);
    for row in 0..9 {
        (0..3).for_each(|n| {
            canvas.rect(x - 12 + n * 8 + (row % 2) * 4, y - 54 + row * 6, 6, 1, [132, 130, 138]);
        });
    }
    for n in 0..4 {
        canvas.rect(x - 15 + n * 8, y - 64, 6, 9, OUTLINE);
        canvas.rect(x - 14 + n * 8, y - 63, 4, 8, STONE);
    }
    canvas.rect(x - 3, y - 40, 6, 9, OUTLINE);
    canvas.rect(x - 5, y - 14, 10, 14, BEAM);
}

fn graves(canvas: &mut Canvas, x: i32, y: i32) {
    for (dx, dy) in [(-26, -6), (-10, -14), (8, -8), (22, -16), (-20, -24), (4, -26)] {
        canvas.shadow(x + dx + 4, y + dy + 1, 6, 2);
        canvas.rect(x + dx - 1, y + dy - 11, 10, 12, OUTLINE);
        canvas.rect(x + dx, y + dy - 10, 8, 10, STONE);
        canvas.rect(x + dx + 3, y + dy - 8, 2, 5, [120, 118, 126]);
    }
    fence(canvas, x - 38, y - 46, 76);
}

fn well(canvas: &mut Canvas, x: i32, y: i32) {
    let y = y - 6;
    canvas.shadow(x + 3, y + 4, 14, 5);
    canvas.disc(x, y, 10, OUTLINE);
    canvas.disc(x, y, 9, STONE);
    canvas.disc(x, y - 1, 6, WATER[0]);
    canvas.rect(x - 10, y - 18, 2, 18, TRUNK);
    canvas.rect(x + 8, y - 18, 2, 18, TRUNK);
    canvas.rect(x - 13, y - 23, 26, 6, [150, 88, 72]);
    canvas.rect(x - 13, y - 24, 26, 1, OUTLINE);
}

fn tree(canvas: &mut Canvas, x: i32, y: i32, dice: &mut Stream) {
    let r = 8 + dice.below(3) as i32;
    canvas.shadow(x + 2, y, r, 4);
    canvas.rect(x - 2, y - 8, 4, 8, TRUNK);
    canvas.disc(x, y - 14, r + 1, OUTLINE);
    canvas.disc(x, y - 14, r, LEAF[0]);
    canvas.disc(x - 2, y - 17, r - 4, LEAF[1]);
    for _ in 0..7 {
        canvas.rect(x - r / 2 + dice.below(r as usize) as i32, y - 18 + dice.below(10) as i32, 2, 1, LEAF[2]);
    }
}

fn forest(canvas: &mut Canvas, at: Vec2, dice: &mut Stream) {
    let mut spots: Vec<(i32, i32)> = (0..70)
        .map(|_| pixel(at + Vec2::new(dice.uniform() * 13.0 - 6.5, dice.uniform() * 3.6 + 0.2)))
        .collect();
    spots.sort_by_key(|spot| spot.1);
    spots.into_iter().for_each(|(x, y)| tree(canvas, x, y, dice));
}

/// A villager of 16 by 24 pixels; the number chooses hair and clothes.
pub fn villager(n: usize) -> Canvas {
    const CLOTHES: [Rgb; 8] = [
        [178, 84, 72],
        [92, 120, 168],
        [120, 146, 84],
        [168, 132, 74],
        [126, 92, 142],
        [84, 140, 138],
        [190, 150, 96],
        [112, 104, 116],
    ];
    const HAIR: [Rgb; 5] = [[96, 66, 46], [58, 48, 52], [186, 146, 84], [176, 172, 168], [150, 82, 52]];
    const SKIN: [Rgb; 3] = [[236, 196, 160], [206, 158, 120], [160, 114, 84]];
    let (cloth, hair, skin) = (CLOTHES[n % 8], HAIR[(n * 3 + n / 8) % 5], SKIN[(n * 2 + n / 3) % 3]);
    let dark = |c: Rgb| c.map(|v| (f32::from(v) * 0.75) as u8);
    let mut canvas = Canvas::new(16, 24);
    canvas.rect(3, 10, 10, 12, OUTLINE);
    canvas.rect(4, 11, 8, 8, cloth);
    canvas.rect(4, 17, 8, 2, dark(cloth));
    canvas.rect(2, 11, 2, 6, OUTLINE);
    canvas.rect(12, 11, 2, 6, OUTLINE);
    canvas.rect(3, 12, 1, 4, cloth);
    canvas.rect(12, 12, 1, 4, cloth);
    canvas.rect(5, 19, 2, 3, [84, 66, 56]);
    canvas.rect(9, 19, 2, 3, [84, 66, 56]);
    canvas.disc(8, 6, 5, OUTLINE);
    canvas.disc(8, 6, 4, skin);
    canvas.rect(4, 2, 8, 3, hair);
    canvas.rect(3, 4, 2, if n.is_multiple_of(2) { 5 } else { 2 }, hair);
    canvas.rect(11, 4, 2, if n.is_multiple_of(2) { 5 } else { 2 }, hair);
    canvas.dot(6, 7, OUTLINE);
    canvas.dot(9, 7, OUTLINE);
    canvas
}

/// A creature of 18 by 14 pixels.
pub fn creature(n: usize) -> Canvas {
    let fur: Rgb = [[128, 128, 138], [122, 92, 72], [104, 78, 62]][n % 3];
    let mut canvas = Canvas::new(18, 14);
    canvas.rect(2, 4, 13, 7, OUTLINE);
    canvas.rect(3, 5, 11, 5, fur);
    canvas.disc(13, 5, 4, OUTLINE);
    canvas.disc(13, 5, 3, fur);
    canvas.rect(11, 0, 2, 3, OUTLINE);
    canvas.rect(15, 0, 2, 3, OUTLINE);
    canvas.dot(14, 5, [230, 200, 90]);
    [3, 6, 9, 12].iter().for_each(|x| canvas.rect(*x, 10, 2, 4, OUTLINE));
    canvas.rect(0, 4, 3, 2, OUTLINE);
    canvas
}

/// A thing of 10 by 10 pixels.
pub fn thing(n: usize) -> Canvas {
    let colour: Rgb =
        [[210, 210, 222], [150, 150, 160], [176, 96, 80], [216, 70, 60], [190, 150, 96], [120, 90, 70]]
            [n % 6];
    let mut canvas = Canvas::new(10, 10);
    canvas.disc(5, 5, 4, OUTLINE);
    canvas.disc(5, 5, 3, colour);
    canvas.rect(3, 3, 2, 2, [250, 246, 230]);
    canvas
}
