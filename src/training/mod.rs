//! Sequences to weights.
