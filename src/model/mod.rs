//! One sequence model: its card, weights and file formats.
