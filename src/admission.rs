//! Admission: a review is read, a plan made, a patch written, an answer sent.
