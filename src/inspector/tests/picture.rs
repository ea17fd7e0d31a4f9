//! Draws what egui tessellated into an image, triangle by triangle, and writes it as PNG.

use egui::epaint::{ClippedPrimitive, Primitive, Vertex};
use egui::{Color32, Context, FullOutput, ImageData, TextureId, TexturesDelta};
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

/// The textures that egui handed over.
#[derive(Default)]
pub struct Painter {
    textures: HashMap<TextureId, ([usize; 2], Vec<Color32>)>,
    /// The widths of those that were made, in order.
    pub made: Vec<usize>,
}

/// A painter that hears of every texture, also of those of frames that nobody looks at.
#[derive(Clone, Default)]
pub struct Shared(pub Rc<RefCell<Painter>>);

impl egui_kittest::TestRenderer for Shared {
    fn handle_delta(&mut self, delta: &mut TexturesDelta) {
        self.0.borrow_mut().take(delta);
        delta.clear();
    }
}

impl Painter {
    /// Takes in a frame's changes of textures.
    pub fn take(&mut self, textures: &TexturesDelta) {
        for (id, delta) in textures.set.iter().flat_map(|(id, all)| all.iter().map(move |delta| (id, delta)))
        {
            let ImageData::Color(image) = &delta.image;
            match delta.pos {
                None => {
                    self.made.push(image.size[0]);
                    self.textures.insert(*id, (image.size, image.pixels.clone()));
                }
                Some([left, top]) => {
                    if let Some(([width, _], pixels)) = self.textures.get_mut(id) {
                        for (n, row) in image.pixels.chunks(image.size[0]).enumerate() {
                            let at = (top + n) * *width + left;
                            pixels[at..at + row.len()].copy_from_slice(row);
                        }
                    }
                }
            }
        }
    }

    /// Draws a frame.
    pub fn draw(&self, ctx: &Context, output: &FullOutput, back: Color32) -> (usize, usize, Vec<Color32>) {
        let scale = output.pixels_per_point;
        let size = ctx.viewport_rect().size() * scale;
        let (width, height) = (size.x as usize, size.y as usize);
        let mut image = vec![back; width * height];
        for ClippedPrimitive { clip_rect, primitive } in ctx.tessellate(output.shapes.clone(), scale) {
            let Primitive::Mesh(mesh) = primitive else { continue };
            let texture = &self.textures[&mesh.texture_id];
            let bound = |value: f32, most: usize| ((value * scale).round().max(0.0) as usize).min(most);
            let clip = [
                bound(clip_rect.min.x, width),
                bound(clip_rect.max.x, width),
                bound(clip_rect.min.y, height),
                bound(clip_rect.max.y, height),
            ];
            for three in mesh.indices.chunks_exact(3) {
                let corners = [0, 1, 2].map(|n| mesh.vertices[three[n] as usize]);
                triangle(&mut image, width, clip, corners, scale, texture);
            }
        }
        (width, height, image)
    }
}

fn triangle(
    image: &mut [Color32],
    width: usize,
    clip: [usize; 4],
    corners: [Vertex; 3],
    scale: f32,
    texture: &([usize; 2], Vec<Color32>),
) {
    let [a, b, c] = corners.map(|v| v.pos * scale);
    let area = (b - a).x * (c - a).y - (b - a).y * (c - a).x;
    if area.abs() < 1e-6 {
        return;
    }
    let low = |x: f32, y: f32, z: f32| x.min(y).min(z).floor().max(0.0) as usize;
    let high = |x: f32, y: f32, z: f32| x.max(y).max(z).ceil().max(0.0) as usize;
    for y in low(a.y, b.y, c.y).max(clip[2])..high(a.y, b.y, c.y).min(clip[3]) {
        for x in low(a.x, b.x, c.x).max(clip[0])..high(a.x, b.x, c.x).min(clip[1]) {
            let p = egui::pos2(x as f32 + 0.5, y as f32 + 0.5);
            let edge = |from: egui::Pos2, to: egui::Pos2| {
                ((to - from).x * (p - from).y - (to - from).y * (p - from).x) / area
            };
            let (wa, wb, wc) = (edge(b, c), edge(c, a), edge(a, b));
            if wa < 0.0 || wb < 0.0 || wc < 0.0 {
                continue;
            }
            let mix =
                |of: fn(&Vertex) -> f32| wa * of(&corners[0]) + wb * of(&corners[1]) + wc * of(&corners[2]);
            let texel = sample(texture, mix(|v| v.uv.x), mix(|v| v.uv.y));
            let channel: [fn(&Vertex) -> f32; 4] = [
                |v| f32::from(v.color.r()),
                |v| f32::from(v.color.g()),
                |v| f32::from(v.color.b()),
                |v| f32::from(v.color.a()),
            ];
            let colour: Vec<f32> = channel.iter().zip(texel).map(|(of, t)| mix(*of) * t / 255.0).collect();
            let under = &mut image[y * width + x];
            let over = |new: f32, old: u8| {
                (new + f32::from(old) * (1.0 - colour[3] / 255.0)).clamp(0.0, 255.0) as u8
            };
            *under = Color32::from_rgb(
                over(colour[0], under.r()),
                over(colour[1], under.g()),
                over(colour[2], under.b()),
            );
        }
    }
}

/// The texture between its four nearest pixels.
fn sample((size, pixels): &([usize; 2], Vec<Color32>), u: f32, v: f32) -> [f32; 4] {
    let at = |value: f32, count: usize| (value * count as f32 - 0.5).clamp(0.0, (count - 1) as f32);
    let (x, y) = (at(u, size[0]), at(v, size[1]));
    let (left, top) = (x as usize, y as usize);
    let (right, bottom) = ((left + 1).min(size[0] - 1), (top + 1).min(size[1] - 1));
    let (fx, fy) = (x.fract(), y.fract());
    let pixel = |x: usize, y: usize| pixels[y * size[0] + x].to_array().map(f32::from);
    let [a, b, c, d] = [pixel(left, top), pixel(right, top), pixel(left, bottom), pixel(right, bottom)];
    std::array::from_fn(|n| {
        (a[n] * (1.0 - fx) + b[n] * fx) * (1.0 - fy) + (c[n] * (1.0 - fx) + d[n] * fx) * fy
    })
}

/// Writes a PNG.
pub fn write(path: &Path, (width, height, image): &(usize, usize, Vec<Color32>)) {
    let file = std::fs::File::create(path).unwrap();
    let mut encoder = png::Encoder::new(file, *width as u32, *height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let bytes: Vec<u8> = image.iter().flat_map(|pixel| [pixel.r(), pixel.g(), pixel.b()]).collect();
    encoder.write_header().unwrap().write_image_data(&bytes).unwrap();
}
