//! Names of objects.

#![allow(unreachable_pub, reason = "some tests take this file alone")]

use pullpass::names::{Form, Name};

/// The name that this text is.
pub fn name<F: Form>(text: &str) -> Name<F> {
    text.parse().unwrap()
}
