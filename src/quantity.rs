//! Numbers in sentences: the noun and the verb agree with the number.

/// `1 login`, `2 logins`: of a noun whose plural ends in `s`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

/// The form of a verb whose subject is so many: `holds` for 1, `hold` for all others.
pub(crate) const fn verb_of(number: usize, one: &'static str, many: &'static str) -> &'static str {
    if number == 1 { one } else { many }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_number() {
        for (number, sentence) in [
            (0, "0 namespaces hold it"),
            (1, "1 namespace holds it"),
            (2, "2 namespaces hold it"),
        ] {
            let holders = count(number, "namespace");
            let hold = verb_of(number, "holds", "hold");
            assert_eq!(format!("{holders} {hold} it"), sentence);
        }
    }
}
