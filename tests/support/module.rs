//! Which module of its program a test is of: what a module's tests share, those of others do not meet.

use std::panic::Location;
use std::path::Path;

/// The module of the program to which this place belongs: `leader` of `tests/api/leader.rs` and of `tests/api/leader/terms.rs`.
pub fn module_of(place: &Location<'_>) -> String {
    let below = Path::new(place.file()).components().nth(2);
    let file = Path::new(below.expect("a file of a test program").as_os_str());
    file.file_stem()
        .expect("a name")
        .to_string_lossy()
        .into_owned()
}
