//! Numbers a designer can trust.
