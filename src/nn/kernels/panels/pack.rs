//! Into panels.

use super::{BLOCK, Format, Line, PANEL, PanelMatrix, SUPER};
use half::f16;

impl PanelMatrix {
    fn empty(format: Format, outputs: usize, inputs: usize) -> Self {
        let (block, lines) = format.block();
        assert!(inputs.is_multiple_of(block), "the inputs do not fill whole blocks");
        let count = outputs.div_ceil(PANEL) * (inputs / block) * lines;
        Self { format, lines: vec![Line([0; 64]); count], outputs, inputs }
    }

    /// Calls `fill` for each output and block: the block's lines, the output's place in the panel, output, block.
    fn fill(mut self, mut fill: impl FnMut(&mut [Line], usize, usize, usize)) -> Self {
        let (block, lines) = self.format.block();
        let blocks = self.inputs / block;
        for o in 0..self.outputs {
            for b in 0..blocks {
                let at = (o / PANEL * blocks + b) * lines;
                fill(&mut self.lines[at..at + lines], o % PANEL, o, b);
            }
        }
        self
    }

    /// Weights of four bytes each.
    pub(crate) fn f32(outputs: usize, inputs: usize, weight: impl Fn(usize, usize) -> f32) -> Self {
        let empty = Self::empty(Format::F32, outputs, inputs);
        empty.fill(|lines, place, o, i| set(lines, 4 * place, &weight(o, i).to_le_bytes()))
    }

    /// Weights of two bytes each: f16, or bf16.
    pub(crate) fn half(
        outputs: usize,
        inputs: usize,
        bf16: bool,
        weight: impl Fn(usize, usize) -> [u8; 2],
    ) -> Self {
        let format = if bf16 { Format::Bf16 } else { Format::F16 };
        Self::empty(format, outputs, inputs).fill(|lines, place, o, i| set(lines, 2 * place, &weight(o, i)))
    }

    /// ggml's `Q8_0`: of each 32 inputs the scale and the values.
    pub(crate) fn q8(outputs: usize, inputs: usize, block: impl Fn(usize, usize) -> (f16, [i8; 32])) -> Self {
        Self::empty(Format::Q8, outputs, inputs).fill(|lines, place, o, b| {
            let (scale, values) = block(o, b);
            bytes(lines, place, &values.map(|value| value.cast_unsigned() ^ 0x80));
            set(lines, 16 * 64 + 2 * place, &scale.to_le_bytes());
        })
    }

    /// ggml's `Q4_0`: of each 32 inputs the scale and the values, 0 to 15, of which 8 is taken.
    pub(crate) fn q4(outputs: usize, inputs: usize, block: impl Fn(usize, usize) -> (f16, [u8; 32])) -> Self {
        Self::empty(Format::Q4, outputs, inputs).fill(|lines, place, o, b| {
            let (scale, values) = block(o, b);
            halves(lines, place, &values);
            set(lines, 8 * 64 + 2 * place, &scale.to_le_bytes());
        })
    }

    /// ggml's `Q4_K`: of each 256 inputs the scale and the minima's scale, eight scales and minima, and the values.
    pub(crate) fn q4_k(
        outputs: usize,
        inputs: usize,
        block: impl Fn(usize, usize) -> ([f16; 2], [(u8, u8); 8], [u8; SUPER]),
    ) -> Self {
        Self::empty(Format::Q4K, outputs, inputs).fill(|lines, place, o, b| {
            let (d, scales, values) = block(o, b);
            set(lines, 2 * place, &d[0].to_le_bytes());
            set(lines, 64 + 2 * place, &d[1].to_le_bytes());
            let (parts, _) = values.as_chunks::<BLOCK>();
            for ((lines, (scale, min)), values) in lines[2..].chunks_mut(9).zip(scales).zip(parts) {
                halves(lines, place, values);
                set(lines, 8 * 64 + place, &[scale]);
                set(lines, 8 * 64 + PANEL + place, &[min]);
            }
        })
    }

    /// ggml's `Q6_K`: of each 256 inputs the scale, sixteen scales, and the values, 0 to 63, of which 32 is taken.
    pub(crate) fn q6_k(
        outputs: usize,
        inputs: usize,
        block: impl Fn(usize, usize) -> (f16, [i8; 16], [u8; SUPER]),
    ) -> Self {
        Self::empty(Format::Q6K, outputs, inputs).fill(|lines, place, o, b| {
            let (d, scales, values) = block(o, b);
            set(lines, 2 * place, &d.to_le_bytes());
            let (parts, _) = values.as_chunks::<BLOCK>();
            for (n, (lines, values)) in lines[1..].chunks_mut(13).zip(parts).enumerate() {
                halves(lines, place, &values.map(|value| value & 15));
                for (i, value) in values.iter().enumerate() {
                    // Group `4 q + j` has bits `2 j` of double group `q`.
                    let (group, at) = (i / 4, i % 4);
                    let byte = 8 * 64 + group / 4 * 128 + 4 * place + at;
                    lines[byte / 64].0[byte % 64] |= value >> 4 << (2 * (group % 4));
                }
                let [first, second] = [scales[2 * n], scales[2 * n + 1]].map(i8::cast_unsigned);
                set(lines, 12 * 64 + place, &[first]);
                set(lines, 12 * 64 + PANEL + place, &[second]);
            }
        })
    }

    /// Values `scale * q + min`: of each 32 inputs scale, minimum and values.
    pub(crate) fn affine(
        outputs: usize,
        inputs: usize,
        block: impl Fn(usize, usize) -> ([f32; 2], [u8; 32]),
    ) -> Self {
        Self::empty(Format::Affine, outputs, inputs).fill(|lines, place, o, b| {
            let ([scale, min], values) = block(o, b);
            bytes(lines, place, &values);
            set(lines, 16 * 64 + 4 * place, &scale.to_le_bytes());
            set(lines, 18 * 64 + 4 * place, &min.to_le_bytes());
        })
    }
}

fn set(lines: &mut [Line], at: usize, bytes: &[u8]) {
    lines[at / 64].0[at % 64..][..bytes.len()].copy_from_slice(bytes);
}

/// 32 bytes of an output, in eight groups.
fn bytes(lines: &mut [Line], place: usize, values: &[u8; 32]) {
    for (group, values) in values.chunks_exact(4).enumerate() {
        set(lines, group * 128 + 4 * place, values);
    }
}

/// 32 half bytes of an output, in four double groups.
fn halves(lines: &mut [Line], place: usize, values: &[u8; 32]) {
    for (pair, values) in values.chunks_exact(8).enumerate() {
        let packed: [u8; 4] = std::array::from_fn(|i| values[i] & 15 | values[i + 4] << 4);
        set(lines, pair * 128 + 4 * place, &packed);
    }
}
