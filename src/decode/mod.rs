//! Many sequences at once: scheduler, sampling, constraints.
