use super::*;
use crate::seed::{Seed, Stream};
use half::f16;
use proptest::prelude::*;

/// A matrix of a format with random weights, and what its weights are.
fn matrix(format: Format, outputs: usize, inputs: usize, noise: &mut Stream) -> PanelMatrix {
    let mut draw =
        |below: usize, count: usize| -> Vec<u16> { (0..count).map(|_| noise.below(below) as u16).collect() };
    let (block, _) = format.block();
    let blocks = inputs / block;
    let numbers = draw(1 << 16, outputs * blocks * 300);
    let at = |o: usize, b: usize| &numbers[(o * blocks + b) * 300..][..300];
    let small = |n: u16| f16::from_f32(f32::from(n % 1000) * 1e-5 - 3e-3);
    let values = |n: &[u16], most: u16| -> Vec<u8> { n.iter().map(|n| (n % most) as u8).collect() };
    match format {
        Format::F32 => PanelMatrix::f32(outputs, inputs, |o, i| small(at(o, i)[0]).to_f32()),
        Format::F16 => PanelMatrix::half(outputs, inputs, false, |o, i| small(at(o, i)[0]).to_le_bytes()),
        Format::Bf16 => PanelMatrix::half(outputs, inputs, true, |o, i| {
            half::bf16::from_f32(small(at(o, i)[0]).to_f32()).to_le_bytes()
        }),
        Format::Q8 => PanelMatrix::q8(outputs, inputs, |o, b| {
            let n = at(o, b);
            (small(n[0]), std::array::from_fn(|i| (n[1 + i] as u8).cast_signed()))
        }),
        Format::Q4 => PanelMatrix::q4(outputs, inputs, |o, b| {
            let n = at(o, b);
            (small(n[0]), values(&n[1..33], 16).try_into().unwrap())
        }),
        Format::Q4K => PanelMatrix::q4_k(outputs, inputs, |o, b| {
            let n = at(o, b);
            let scales = std::array::from_fn(|i| ((n[2 + i] % 64) as u8, (n[10 + i] % 64) as u8));
            ([small(n[0]), small(n[1])], scales, values(&n[20..276], 16).try_into().unwrap())
        }),
        Format::Q6K => PanelMatrix::q6_k(outputs, inputs, |o, b| {
            let n = at(o, b);
            let scales = std::array::from_fn(|i| (n[1 + i] as u8).cast_signed());
            (small(n[0]), scales, values(&n[20..276], 64).try_into().unwrap())
        }),
        Format::Affine => PanelMatrix::affine(outputs, inputs, |o, b| {
            let n = at(o, b);
            let values = values(&n[2..34], 256).try_into().unwrap();
            ([small(n[0]).to_f32(), small(n[1]).to_f32()], values)
        }),
    }
}

const FORMATS: [Format; 8] = [
    Format::F32,
    Format::F16,
    Format::Bf16,
    Format::Q8,
    Format::Q4,
    Format::Q4K,
    Format::Q6K,
    Format::Affine,
];

fn activations(rows: usize, inputs: usize, noise: &mut Stream) -> Activations {
    let mut x = Activations::default();
    let values: Vec<f32> = (0..rows * inputs).map(|_| noise.normal()).collect();
    x.set(&values, inputs, true);
    x
}

/// Rounded activations as numbers.
fn rounded(x: &Activations, format: Format) -> Vec<f64> {
    if matches!(format, Format::F32 | Format::F16 | Format::Bf16) {
        return x.values.iter().copied().map(f64::from).collect();
    }
    x.rounded.iter().enumerate().map(|(i, q)| f64::from(*q) * f64::from(x.scales[i / BLOCK])).collect()
}

#[test]
fn products_are_those_of_the_weights_in_the_layout() {
    let mut noise = Seed::new(1).stream();
    for format in FORMATS {
        for (outputs, inputs, rows) in [(1, 256, 1), (40, 512, 9), (64, 256, 17)] {
            let matrix = matrix(format, outputs, inputs, &mut noise);
            let x = activations(rows, inputs, &mut noise);
            let mut out = vec![f32::NAN; matrix.panels() * rows * PANEL];
            matrix.multiply(&x, 0..matrix.panels(), &mut out);
            let numbers = rounded(&x, format);
            for o in 0..outputs {
                let tile = matrix.tile(o / PANEL);
                let mut row = vec![0.0; inputs];
                matrix.row(o, &mut row);
                assert!((0..inputs).all(|i| row[i] == formats::weight(&tile, o % PANEL, i)));
                let weights: Vec<f64> =
                    (0..inputs).map(|i| f64::from(formats::weight(&tile, o % PANEL, i))).collect();
                for row in 0..rows {
                    let x = &numbers[row * inputs..][..inputs];
                    let expected: f64 = weights.iter().zip(x).map(|(w, x)| w * x).sum();
                    let size: f64 = weights.iter().zip(x).map(|(w, x)| (w * x).abs()).sum();
                    let found = f64::from(out[(o / PANEL * rows + row) * PANEL + o % PANEL]);
                    assert!(
                        (found - expected).abs() <= 1e-5 * size + 1e-6,
                        "{format:?}: {found}, not {expected}"
                    );
                }
            }
        }
    }
}

/// Every instruction set of this machine gives the same bits.
#[test]
fn instruction_sets_agree_to_the_bit() {
    let mut noise = Seed::new(2).stream();
    for format in FORMATS {
        let (inputs, rows) = (512, 13);
        let matrix = matrix(format, PANEL, inputs, &mut noise);
        let x = activations(rows, inputs, &mut noise);
        let mut twin = vec![0.0; rows * PANEL];
        isa::plain(&matrix.tile(0), &Rows::of(&x), &mut twin);
        assert!(twin.iter().all(|v| v.is_finite()) && twin.iter().any(|v| *v != 0.0));
        #[cfg(target_arch = "x86_64")]
        #[expect(unsafe_code, reason = "each is called where it is there")]
        for run in [
            (
                std::arch::is_x86_feature_detected!("avx512vnni"),
                isa::x86::avx512 as unsafe fn(&Tile<'_>, &Rows<'_>, &mut [f32]),
            ),
            (std::arch::is_x86_feature_detected!("avx2"), isa::x86::avx2),
        ] {
            if !run.0 {
                println!("an instruction set is not there, and is not tested");
                continue;
            }
            let mut out = vec![0.0; rows * PANEL];
            // SAFETY: it was found.
            unsafe { run.1(&matrix.tile(0), &Rows::of(&x), &mut out) };
            assert_eq!(out, twin, "{format:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn company_and_threads_do_not_change_a_bit(seed in any::<u64>(), rows in 1usize..20, threads in 1usize..4) {
        let mut noise = Seed::new(seed).stream();
        let format = FORMATS[noise.below(FORMATS.len())];
        let (outputs, inputs) = (1 + noise.below(400), 256);
        let matrix = matrix(format, outputs, inputs, &mut noise);
        let x = activations(rows, inputs, &mut noise);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (mut out, mut parts) = (Vec::new(), Vec::new());
        pool.install(|| matrix.multiply_all(&x, &mut out, &mut parts));
        prop_assert_eq!(out.len(), rows * outputs);
        for row in 0..rows {
            let mut one = Activations::default();
            one.set(&x.values[row * inputs..][..inputs], inputs, true);
            let (mut alone, mut parts) = (Vec::new(), Vec::new());
            matrix.multiply_all(&one, &mut alone, &mut parts);
            prop_assert_eq!(&alone[..], &out[row * outputs..][..outputs]);
        }
    }
}

#[test]
fn activations_are_rounded_to_the_nearest_of_255() {
    let mut x = Activations::default();
    let values: Vec<f32> = (0..64).map(|i| (i as f32 - 20.0) * 0.1).collect();
    x.set(&values, 64, true);
    for (i, value) in values.iter().enumerate() {
        let back = f32::from(x.rounded[i]) * x.scales[i / 32];
        // The scale itself is a half.
        let most = 0.5001 * x.scales[i / 32] + value.abs() / 2048.0;
        assert!((back - value).abs() <= most, "{back} {value}");
    }
    x.set(&[0.0; 32], 32, true);
    assert!(x.rounded.iter().all(|q| *q == 0) && x.scales == [0.0]);
    x.set(&[1.0; 7], 7, false);
    assert!(x.rounded.is_empty() && x.rows() == 1);
}
