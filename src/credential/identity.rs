//! Who asks: each identity opens a session that signs one mint. Nothing falls back from one identity to another.

pub mod keys;
