//! Any bytes are a model, a vocabulary and a chat template, or one clear error.

#![no_main]

use bevy_skald::model::gguf::GgufFile;
use bevy_skald::text::Message;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = GgufFile::from_bytes(bytes, "fuzz.gguf") else { return };
    for (_, tensor) in file.tensors() {
        assert_eq!(tensor.dequantize().len(), tensor.shape.iter().product::<usize>());
    }
    let _ = file.model();
    if let Ok(Some(vocabulary)) = file.vocabulary() {
        let ids = vocabulary.tokenizer.encode("the old road, 12 \u{1f600}").unwrap_or_default();
        let _ = vocabulary.tokenizer.decode(&ids);
        if let Ok(Some(template)) = vocabulary.chat("fuzz.gguf") {
            let _ = template.render(&[Message::new("user", "hello")], true);
        }
    }
});
