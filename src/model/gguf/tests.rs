use super::*;
use crate::seed::Seed;
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use proptest::prelude::*;
use std::path::PathBuf;

/// What the `gguf` package wrote (`benches/peers/gguf_files.py`).
fn fixture() -> GgufFile {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/gguf/blocks.gguf");
    GgufFile::open(&path).unwrap()
}

fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut noise = Seed::new(seed).stream();
    (0..count).map(|_| noise.normal()).collect()
}

const ROUNDED: [TensorType; 5] =
    [TensorType::Q4_0, TensorType::Q4_1, TensorType::Q5_0, TensorType::Q5_1, TensorType::Q8_0];
const K_TYPES: [TensorType; 3] = [TensorType::Q4K, TensorType::Q5K, TensorType::Q6K];

#[test]
fn blocks_dequantize_to_the_bit_as_the_gguf_package_has_it() {
    let file = fixture();
    for kind in ROUNDED.into_iter().chain(K_TYPES) {
        let stored = file.tensor(kind.name()).unwrap();
        assert_eq!((stored.kind, stored.shape), (kind, [1, 512].as_slice()));
        let expected = file.tensor(&format!("{}.values", kind.name())).unwrap().dequantize();
        let ours = stored.dequantize();
        for (i, (ours, expected)) in ours.iter().zip(&expected).enumerate() {
            assert_eq!(ours, expected, "{}, value {i}", kind.name());
        }
    }
}

#[test]
fn blocks_quantize_to_the_bit_as_the_gguf_package_has_it() {
    let file = fixture();
    let values = file.tensor("values").unwrap().dequantize();
    for kind in ROUNDED.into_iter().chain([TensorType::F16, TensorType::BF16]) {
        let ours = kind.quantize(&values, "values").unwrap();
        assert!(ours == file.tensor(kind.name()).unwrap().data, "{}", kind.name());
    }
}

/// How far values are off after a round trip: the root of the mean square, plain and weighed as ggml weighs.
fn off(values: &[f32], back: &[f32]) -> [f64; 2] {
    let (mut plain, mut weighed, mut weights) = (0.0, 0.0, 0.0);
    for (x, y) in values.iter().zip(back) {
        let off = f64::from(x - y) * f64::from(x - y);
        plain += off;
        weighed += off * f64::from(x.abs());
        weights += f64::from(x.abs());
    }
    [(plain / values.len() as f64).sqrt(), (weighed / weights).sqrt()]
}

#[test]
fn k_blocks_are_as_near_as_ggmls_reference() {
    let smooth = |seed| noise(seed, 8192);
    let heavy = |seed| smooth(seed).iter().map(|x| x * x * x * 0.02).collect::<Vec<f32>>();
    let shifted = |seed| smooth(seed).iter().map(|x| x * 0.1 + 0.3).collect::<Vec<f32>>();
    let theirs = [GgmlDType::Q4K, GgmlDType::Q5K, GgmlDType::Q6K];
    for values in [smooth(1), heavy(2), shifted(3)] {
        for (kind, theirs) in K_TYPES.into_iter().zip(theirs) {
            let ours = off(&values, &kind.dequantize(&kind.quantize(&values, "x").unwrap()));
            let tensor = Tensor::from_slice(&values, (32, 256), &Device::Cpu).unwrap();
            let theirs = QTensor::quantize(&tensor, theirs).unwrap().dequantize(&Device::Cpu).unwrap();
            let theirs = off(&values, &theirs.flatten_all().unwrap().to_vec1::<f32>().unwrap());
            for (ours, theirs) in ours.into_iter().zip(theirs) {
                assert!(ours <= theirs * 1.02, "{}: {ours} against {theirs}", kind.name());
            }
        }
    }
}

#[test]
fn every_type_keeps_zeros_and_refuses_what_it_cannot_hold() {
    let every =
        ROUNDED.into_iter().chain(K_TYPES).chain([TensorType::F32, TensorType::F16, TensorType::BF16]);
    for kind in every {
        let zeros = kind.dequantize(&kind.quantize(&[0.0; 256], "z").unwrap());
        assert!(zeros.len() == 256 && zeros.iter().all(|x| *x == 0.0), "{}", kind.name());
        assert!(kind.quantize(&[f32::NAN; 256], "z").unwrap_err().to_string().contains("`z`"));
        assert_eq!(TensorType::from_id(kind.id()), Ok(kind));
    }
    assert!(TensorType::Q8_0.quantize(&[1e6; 32], "z").unwrap_err().to_string().contains("1000000"));
    assert!(TensorType::Q4K.quantize(&[1.0; 32], "z").unwrap_err().to_string().contains("256"));
}

fn metadata() -> Metadata {
    let mut all = Metadata::new("m.gguf");
    let text = |text: &str| text.to_owned();
    for (key, value) in [
        ("a.u8", MetadataValue::U8(200)),
        ("a.i8", MetadataValue::I8(-3)),
        ("a.u16", MetadataValue::U16(60_000)),
        ("a.i16", MetadataValue::I16(-300)),
        ("a.u32", MetadataValue::U32(70_000)),
        ("a.i32", MetadataValue::I32(-70_000)),
        ("a.f32", MetadataValue::F32(1.5)),
        ("a.bool", MetadataValue::Bool(true)),
        ("a.text", MetadataValue::String(text("h\u{e9}llo"))),
        ("a.u64", MetadataValue::U64(1 << 40)),
        ("a.i64", MetadataValue::I64(-(1 << 40))),
        ("a.f64", MetadataValue::F64(0.1)),
        ("b.texts", MetadataValue::Array(MetadataArray::String(vec![text(""), text("x\n")]))),
        ("b.scores", MetadataValue::Array(MetadataArray::F32(vec![1.0, -2.0]))),
        ("b.none", MetadataValue::Array(MetadataArray::I64(vec![]))),
        ("b.flags", MetadataValue::Array(MetadataArray::Bool(vec![true, false]))),
    ] {
        all.insert(key, value);
    }
    all
}

fn written() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let tensor =
        |name: &str, kind, shape: &[usize]| GgufOutput { name: name.into(), kind, shape: shape.into() };
    let tensors = [
        tensor("odd", TensorType::F16, &[3]),
        tensor("rows", TensorType::Q4_0, &[2, 64]),
        tensor("cube", TensorType::F32, &[2, 1, 3]),
    ];
    write_gguf(&path, &metadata(), &tensors, |tensor| {
        let count = tensor.shape.iter().product();
        tensor.kind.quantize(&noise(1, count), &tensor.name)
    })
    .unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    std::fs::read(path).unwrap()
}

#[test]
fn a_file_survives_a_round_trip() {
    let bytes = written();
    let file = GgufFile::from_bytes(&bytes, "m.gguf").unwrap();
    assert_eq!(file.metadata(), &metadata());
    assert_eq!(file.tensor("cube").unwrap().dequantize(), noise(1, 6));
    assert_eq!(file.tensor("cube").unwrap().shape, [2, 1, 3]);
    assert_eq!(file.tensor("rows").unwrap().data, TensorType::Q4_0.quantize(&noise(1, 128), "").unwrap());
    assert_eq!(file.tensors().count(), 3);
    // Version 2 has the same layout.
    let mut second = bytes;
    second[4] = 2;
    assert!(GgufFile::from_bytes(&second, "m.gguf").is_ok());
}

#[test]
fn a_failed_write_keeps_the_file_that_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    std::fs::write(&path, b"before").unwrap();
    let tensors = [GgufOutput { name: "t".into(), kind: TensorType::F32, shape: vec![2] }];
    let error = write_gguf(&path, &metadata(), &tensors, |_| Ok(vec![0; 4])).unwrap_err().to_string();
    assert!(error.contains("`t`") && error.contains("4 bytes"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"before");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// A file by hand: each field can lie.
struct Lie {
    tensors: u64,
    dims: Vec<u64>,
    kind: u32,
    offsets: [u64; 2],
    alignment: u32,
}

const HONEST: Lie = Lie { tensors: 2, dims: vec![], kind: 0, offsets: [0, 32], alignment: 32 };

impl Lie {
    fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF\x03\0\0\0".to_vec();
        let mut put = |bytes: &[u8]| out.extend(bytes);
        let dims = if self.dims.is_empty() { &[8][..] } else { &self.dims };
        put(&self.tensors.to_le_bytes());
        put(&1u64.to_le_bytes());
        put(&17u64.to_le_bytes());
        put(b"general.alignment");
        put(&4u32.to_le_bytes());
        put(&self.alignment.to_le_bytes());
        for (name, offset) in [b"a", b"b"].iter().zip(self.offsets) {
            put(&1u64.to_le_bytes());
            put(*name);
            put(&(dims.len() as u32).to_le_bytes());
            dims.iter().for_each(|n| put(&n.to_le_bytes()));
            put(&self.kind.to_le_bytes());
            put(&offset.to_le_bytes());
        }
        out.resize(out.len().next_multiple_of(32) + 64, 0);
        out
    }
}

#[test]
fn lies_are_found_and_named() {
    let error = |lie: Lie| GgufFile::from_bytes(&lie.bytes(), "m.gguf").unwrap_err().to_string();
    assert!(GgufFile::from_bytes(&HONEST.bytes(), "m.gguf").is_ok());
    for (lie, said) in [
        (Lie { tensors: 1 << 60, ..HONEST }, "1152921504606846976 tensors"),
        (Lie { dims: vec![1 << 60], ..HONEST }, "`a`"),
        (Lie { dims: vec![u64::MAX, u64::MAX], ..HONEST }, "`a`"),
        (Lie { dims: vec![1 << 32, 1 << 32], ..HONEST }, "`a`"),
        (Lie { dims: vec![0], ..HONEST }, "no shape"),
        (Lie { dims: vec![1; 5], ..HONEST }, "5 dimensions"),
        (Lie { dims: vec![16, 2], kind: 2, ..HONEST }, "Q4_0"),
        (Lie { kind: 10, ..HONEST }, "Q2_K"),
        (Lie { kind: 99, ..HONEST }, "type 99"),
        (Lie { offsets: [0, 0], ..HONEST }, "overlaps `a`"),
        (Lie { offsets: [0, 8], ..HONEST }, "aligned"),
        (Lie { offsets: [0, 64], ..HONEST }, "truncated"),
        (Lie { offsets: [0, u64::MAX - 31], ..HONEST }, "`b`"),
        (Lie { alignment: 0, ..HONEST }, "general.alignment"),
        (Lie { alignment: 24, ..HONEST }, "general.alignment"),
    ] {
        let text = error(lie);
        assert!(text.contains(said) && text.contains("m.gguf"), "{said}: {text}");
    }
}

#[test]
fn damage_is_one_clear_error() {
    let whole = written();
    let error = |bytes: &[u8]| GgufFile::from_bytes(bytes, "m.gguf").unwrap_err().to_string();
    let with = |at: usize, new: &[u8]| {
        let mut bytes = whole.clone();
        bytes[at..at + new.len()].copy_from_slice(new);
        bytes
    };
    let find = |text: &[u8]| whole.windows(text.len()).position(|window| window == text).unwrap();
    assert!(error(b"").contains("header"));
    assert!(error(&with(0, b"PK")).contains("no GGUF file"));
    assert!(error(&with(4, &[1])).contains("version of GGUF is 1"));
    assert!(error(&with(4, &[0, 0, 0, 3])).contains("big-endian"));
    assert!(error(&with(16, &[255; 8])).contains("values of metadata"));
    assert!(error(&with(find("h\u{e9}llo".as_bytes()) + 1, b"x")).contains("UTF-8"));
    assert!(error(&with(find(b"a.bool") + 10, &[2])).contains("a.bool"));
    assert!(error(&with(find(b"b.texts") + 11, &[0, 0, 0, 0, 0, 0, 0, 1])).contains("b.texts"));
    assert!(error(&with(find(b"b.texts") + 11, &[9])).contains("b.texts"));
    assert!(error(&with(find(b"a.u8"), b"a.i8")).contains("twice"));
    for cut in 0..whole.len() - 8 {
        assert!(error(&whole[..cut]).contains("m.gguf"), "{cut}");
    }
    let missing = GgufFile::open(std::path::Path::new("/no/such.gguf")).unwrap_err().to_string();
    assert!(missing.contains("/no/such.gguf") && missing.contains("check the path"), "{missing}");
    assert!(GgufFile::open(tempfile::tempdir().unwrap().path()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn mutated_files_are_read_or_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        whole: bool,
    ) {
        let mut bytes = written();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if !whole {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(file) = GgufFile::from_bytes(&bytes, "m.gguf") {
            for (_, tensor) in file.tensors() {
                prop_assert_eq!(tensor.dequantize().len(), tensor.shape.iter().product::<usize>());
            }
        }
    }

    #[test]
    fn any_blocks_dequantize(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        for kind in ROUNDED.into_iter().chain(K_TYPES) {
            let whole = bytes.len() / kind.block_bytes();
            prop_assert_eq!(kind.dequantize(&bytes).len(), whole * kind.block_values());
        }
    }
}

mod models;
mod vocabularies;
