//! [`KvCache`]: what a model remembers of a sequence, in pages that sequences share.

use crate::nn::kernels::attention::POSITIONS;
use crate::nn::kernels::vectorized;
use half::f16;
use half::slice::HalfFloatSliceExt;
use std::sync::Arc;

/// How the numbers of a cache are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvType {
    /// 32 bits.
    F32,
    /// 16 bits; a recurrent network's states are kept in 32.
    #[default]
    F16,
    /// 8 bits and a scale of 16 for each 32 numbers of a head, as ggml's `Q8_0`: about half of [`KvType::F16`], for worlds
    /// that remember much. A recurrent network's states are kept in 32.
    Q8,
}

/// Numbers that share a scale.
const BLOCK: usize = 32;

/// What a page holds: for each layer and key head, [`POSITIONS`] positions of keys `[size, 16]` and values `[16, size]`; of
/// a recurrent network, for each layer, states and cells `[16, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) size: usize,
    pub(super) kind: KvType,
}

impl Shape {
    /// Numbers of one head of one layer.
    const fn head(self) -> usize {
        2 * POSITIONS * self.size
    }

    const fn layer(self) -> usize {
        self.heads * self.head()
    }

    const fn page(self) -> usize {
        self.layers * self.layer()
    }

    /// Scales of a position's keys (or values) in one head of one layer.
    const fn blocks(self) -> usize {
        self.size.div_ceil(BLOCK)
    }

    /// Scales of a page: for each head `[2 * 16, blocks]`, those of keys and then those of values.
    const fn scales(self) -> usize {
        self.layers * self.heads * 2 * POSITIONS * self.blocks()
    }

    pub(super) const fn page_bytes(self) -> usize {
        match self.kind {
            KvType::F32 => 4 * self.page(),
            KvType::F16 => 2 * self.page(),
            KvType::Q8 => self.page() + 2 * self.scales(),
        }
    }
}

#[derive(Clone, Debug)]
enum Page {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Q8(Vec<i8>, Vec<f16>),
}

impl Page {
    fn new(shape: Shape) -> Self {
        match shape.kind {
            KvType::F32 => Self::F32(vec![0.0; shape.page()]),
            KvType::F16 => Self::F16(vec![f16::ZERO; shape.page()]),
            KvType::Q8 => Self::Q8(vec![0; shape.page()], vec![f16::ZERO; shape.scales()]),
        }
    }

    /// Whether it is of a shape.
    fn fits(&self, shape: Shape) -> bool {
        match self {
            Self::F32(data) => shape.kind == KvType::F32 && data.len() == shape.page(),
            Self::F16(data) => shape.kind == KvType::F16 && data.len() == shape.page(),
            Self::Q8(data, scales) => {
                shape.kind == KvType::Q8 && data.len() == shape.page() && scales.len() == shape.scales()
            }
        }
    }

    /// Sets numbers; `scale` is where the scales of blocks are.
    fn set(&mut self, mut at: impl Iterator<Item = usize>, scale: usize, values: &[f32]) {
        match self {
            Self::F32(data) => at.zip(values).for_each(|(at, value)| data[at] = *value),
            Self::F16(data) => at.zip(values).for_each(|(at, value)| data[at] = f16::from_f32(*value)),
            Self::Q8(data, scales) => {
                for (values, scale) in values.chunks(BLOCK).zip(&mut scales[scale..]) {
                    let most = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
                    *scale = f16::from_f32((most / 127.0).min(f16::MAX.to_f32()));
                    let inverse = if *scale > f16::ZERO { scale.to_f32().recip() } else { 0.0 };
                    for (value, at) in values.iter().zip(&mut at) {
                        data[at] = (value * inverse).round_ties_even() as i8;
                    }
                }
            }
        }
    }
}

/// What a model remembers of a sequence: keys and values, or the states of a recurrent network. Grows as needed, up to the
/// model's context, a page of [`KvCache::PAGE`] tokens at a time. A clone shares the pages; one that is shared is copied
/// before it changes.
#[derive(Clone, Debug)]
pub struct KvCache {
    shape: Shape,
    pages: Vec<Arc<Page>>,
    length: usize,
}

/// One page of a [`KvCache`], to be kept and shared.
#[derive(Clone, Debug)]
pub struct KvPage(Arc<Page>);

impl KvPage {
    /// Whether nobody else holds it.
    pub fn is_alone(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// What tells it from other pages as long as it lives.
    pub fn address(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }
}

impl KvCache {
    /// Tokens a page.
    pub const PAGE: usize = POSITIONS;

    pub(super) fn new(shape: Shape) -> Self {
        Self { shape, pages: Vec::new(), length: 0 }
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    /// How many tokens it holds.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Forgets all but the first `length` tokens.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
        self.pages.truncate(self.length.div_ceil(POSITIONS));
    }

    /// Bytes of its pages, those that it shares included.
    pub fn bytes(&self) -> usize {
        self.pages.len() * self.page_bytes()
    }

    /// Bytes of each page.
    pub fn page_bytes(&self) -> usize {
        self.shape.page_bytes()
    }

    /// Its pages.
    pub fn pages(&self) -> impl ExactSizeIterator<Item = KvPage> + '_ {
        self.pages.iter().map(|page| KvPage(Arc::clone(page)))
    }

    /// Page `n`, if it is full.
    pub fn full_page(&self, n: usize) -> Option<KvPage> {
        ((n + 1) * POSITIONS <= self.length).then(|| KvPage(Arc::clone(&self.pages[n])))
    }

    /// Goes on with a full page of the same model, computed elsewhere. Passed over (`false`) where the last page of this
    /// cache is not full, or where the page is of another shape.
    pub fn adopt(&mut self, page: &KvPage) -> bool {
        let fits = self.length.is_multiple_of(POSITIONS) && page.0.fits(self.shape);
        if fits {
            self.pages.push(Arc::clone(&page.0));
            self.length += POSITIONS;
        }
        fits
    }

    /// The numbers of a full page, little-endian, as [`KvCache::page_from_bytes`] reads them.
    pub fn page_to_bytes(page: &KvPage) -> Vec<u8> {
        match &*page.0 {
            Page::F32(data) => data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Page::F16(data) => data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Page::Q8(data, scales) => {
                let data = data.iter().map(|x| x.cast_unsigned());
                data.chain(scales.iter().flat_map(|x| x.to_le_bytes())).collect()
            }
        }
    }

    /// A page of this cache's shape. `None` where the bytes are of another one, or hold what is not a number.
    pub fn page_from_bytes(&self, bytes: &[u8]) -> Option<KvPage> {
        if bytes.len() != self.page_bytes() {
            return None;
        }
        let page = match self.shape.kind {
            KvType::F32 => {
                let number = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
                let data: Vec<f32> = bytes.chunks_exact(4).map(number).collect();
                if data.iter().any(|x| !x.is_finite()) {
                    return None;
                }
                Page::F32(data)
            }
            KvType::F16 => Page::F16(halves(bytes)?),
            KvType::Q8 => {
                let (data, scales) = bytes.split_at(self.shape.page());
                Page::Q8(data.iter().map(|x| x.cast_signed()).collect(), halves(scales)?)
            }
        };
        Some(KvPage(Arc::new(page)))
    }

    /// Makes room for `count` more tokens, in pages of its own.
    pub(super) fn reserve(&mut self, count: usize) {
        if !self.length.is_multiple_of(POSITIONS)
            && count > 0
            && let Some(last) = self.pages.last_mut()
        {
            Arc::make_mut(last);
        }
        let pages = (self.length + count).div_ceil(POSITIONS);
        while self.pages.len() < pages {
            self.pages.push(Arc::new(Page::new(self.shape)));
        }
    }

    fn own(&mut self, position: usize) -> &mut Page {
        // `reserve` has made them this cache's own.
        Arc::make_mut(&mut self.pages[position / POSITIONS])
    }

    /// Sets keys and values `[heads * size]` of a position in a layer.
    pub(super) fn set(&mut self, layer: usize, position: usize, keys: &[f32], values: &[f32]) {
        let (shape, p) = (self.shape, position % POSITIONS);
        let page = self.own(position);
        let heads = keys.chunks_exact(shape.size).zip(values.chunks_exact(shape.size));
        for (head, (key, value)) in heads.enumerate() {
            let start = layer * shape.layer() + head * shape.head();
            let scale = ((layer * shape.heads + head) * 2 * POSITIONS + p) * shape.blocks();
            page.set((start + p..).step_by(POSITIONS), scale, key);
            let scale = scale + POSITIONS * shape.blocks();
            page.set(start + POSITIONS * shape.size + p * shape.size.., scale, value);
        }
    }

    /// The numbers of one head in one layer, page after page, each with what the head's begin at. `space` is where narrower
    /// numbers become floats.
    pub(super) fn head<'a>(
        &'a self,
        layer: usize,
        head: usize,
        length: usize,
        space: &'a mut Vec<f32>,
    ) -> Vec<&'a [f32]> {
        let (start, size) = (layer * self.shape.layer() + head * self.shape.head(), self.shape.head());
        let pages = &self.pages[..length.div_ceil(POSITIONS)];
        if self.shape.kind != KvType::F32 {
            let scale = (layer * self.shape.heads + head) * 2 * POSITIONS * self.shape.blocks();
            space.resize(pages.len() * size, 0.0);
            for (page, space) in pages.iter().zip(space.chunks_exact_mut(size)) {
                match &**page {
                    Page::F16(data) => data[start..start + size].convert_to_f32_slice(space),
                    Page::Q8(data, scales) => {
                        self.widen(&data[start..start + size], &scales[scale..], space);
                    }
                    Page::F32(_) => {}
                }
            }
            return space.chunks_exact(size).collect();
        }
        let head = |page: &'a Arc<Page>| match &**page {
            Page::F32(data) => &data[start..start + size],
            Page::F16(_) | Page::Q8(..) => &[],
        };
        pages.iter().map(head).collect()
    }

    /// The numbers of one head of a page: keys `[size, 16]` and values `[16, size]`, with their scales.
    fn widen(&self, data: &[i8], scales: &[f16], out: &mut [f32]) {
        let (size, blocks) = (self.shape.size, self.shape.blocks());
        let (keys, values) = data.split_at(POSITIONS * size);
        let (out_keys, out_values) = out.split_at_mut(POSITIONS * size);
        let (key_scales, value_scales) = scales.split_at(POSITIONS * blocks);
        vectorized(
            #[inline(always)]
            || {
                let mut own = [0.0; POSITIONS];
                let rows = keys.chunks_exact(POSITIONS).zip(out_keys.chunks_exact_mut(POSITIONS));
                for (d, (keys, out)) in rows.enumerate() {
                    if d.is_multiple_of(BLOCK) {
                        own = std::array::from_fn(|p| key_scales[p * blocks + d / BLOCK].to_f32());
                    }
                    for ((out, key), scale) in out.iter_mut().zip(keys).zip(own) {
                        *out = f32::from(*key) * scale;
                    }
                }
                let rows = values.chunks_exact(size).zip(out_values.chunks_exact_mut(size));
                for ((values, out), scales) in rows.zip(value_scales.chunks_exact(blocks)) {
                    for ((values, out), scale) in values.chunks(BLOCK).zip(out.chunks_mut(BLOCK)).zip(scales)
                    {
                        let scale = scale.to_f32();
                        for (out, value) in out.iter_mut().zip(values) {
                            *out = f32::from(*value) * scale;
                        }
                    }
                }
            },
        );
    }

    /// State and cell of a recurrent network at a position of a layer.
    pub(super) fn state(&self, layer: usize, position: usize) -> [&[f32]; 2] {
        let (w, start) =
            (self.shape.size, layer * self.shape.layer() + position % POSITIONS * self.shape.size);
        match &*self.pages[position / POSITIONS] {
            Page::F32(data) => [start, start + POSITIONS * w].map(|at| &data[at..at + w]),
            Page::F16(_) | Page::Q8(..) => [&[], &[]],
        }
    }

    /// Sets them.
    pub(super) fn set_state(&mut self, layer: usize, position: usize, state: &[f32], cell: &[f32]) {
        let (w, start) =
            (self.shape.size, layer * self.shape.layer() + position % POSITIONS * self.shape.size);
        let page = self.own(position);
        page.set(start.., 0, state);
        page.set(start + POSITIONS * w.., 0, cell);
    }

    pub(super) fn grow(&mut self, count: usize) {
        self.length += count;
    }
}

/// Halves, little-endian. `None` where one is not a number.
fn halves(bytes: &[u8]) -> Option<Vec<f16>> {
    let data: Vec<f16> = bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]])).collect();
    data.iter().all(|x| x.is_finite()).then_some(data)
}
