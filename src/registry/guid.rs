//! Ids of Entra ID.

/// Whether a text is a GUID, as ids of tenants and applications are: nothing else ever becomes a part of a URL.
pub fn is_guid(text: &str) -> bool {
    let groups = [8, 4, 4, 4, 12];
    let mut parts = text.split('-');
    groups.iter().all(|&length| {
        parts.next().is_some_and(|part| {
            part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    }) && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_guid_takes_nothing_else() {
        let id = "0f8fad5b-d9cb-469f-a165-70867728950e";
        assert!(is_guid(id));
        assert!(is_guid(&id.to_uppercase()));
        for other in [
            "",
            "contoso.onmicrosoft.com",
            "0f8fad5bd9cb469fa16570867728950e",
            "{0f8fad5b-d9cb-469f-a165-70867728950e}",
            "0f8fad5b-d9cb-469f-a165-70867728950e/",
            "0f8fad5b-d9cb-469f-a165-70867728950e-",
            "0f8fad5b-d9cb-469f-a165-7086772895/e",
            "../fad5b-d9cb-469f-a165-70867728950e",
            " 0f8fad5b-d9cb-469f-a165-70867728950e",
        ] {
            assert!(!is_guid(other), "{other:?}");
        }
    }
}
