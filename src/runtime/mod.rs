//! The compute worker, model assets, diagnostics, test harness.
