//! Layers that differentiate, losses, optimisers.
