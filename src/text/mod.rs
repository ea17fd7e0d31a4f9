//! Cleaning, tokenizers.
