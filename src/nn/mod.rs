//! Layers that differentiate, losses, optimisers, devices. Knows nothing of models or text.
//!
//! [`tape`] is the CPU's way: fused operations over flat [`Parameters`]. The functions beside it are made of candle's
//! operations and run on a GPU too.

mod device;
mod flat;
mod fused;
pub(crate) mod kernels;
mod layers;
pub mod optim;
mod parameters;
pub mod tape;

pub(crate) use device::give_way;
pub use device::{Compute, DeviceChoice};
pub use flat::{FlatOptimizer, Tensors, clip_scale, global_norm};
pub use kernels::panels::instruction_set;
pub(crate) use kernels::{Matrix, matmul};
pub use layers::{
    Mode, Tokens, attention, attention_mask, cross_entropy, dropout, embedding, linear, rms_norm, rope,
    rope_table, silu, softmax, swiglu,
};
pub use parameters::{Parameter, ParameterId, Parameters};
