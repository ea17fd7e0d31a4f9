//! Play to store to data sets.
