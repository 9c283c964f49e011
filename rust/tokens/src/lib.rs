//! Texts to ragged token arrays.
