//! Layers that differentiate, losses, optimisers, devices. Knows nothing of models or text.

mod device;
mod fused;
mod layers;
pub mod optim;

pub use device::DeviceChoice;
pub use layers::{
    Mode, Tokens, attention, attention_mask, cross_entropy, dropout, embedding, linear, rms_norm, rope,
    rope_table, silu, softmax, swiglu,
};
