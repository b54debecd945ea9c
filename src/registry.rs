//! The Registry kind, its patterns, and which Registry serves an image in a namespace.

pub mod source;
