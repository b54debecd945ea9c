//! Admission: a review is read, a plan made, a patch written, an answer sent.

pub mod patch;
pub mod review;
